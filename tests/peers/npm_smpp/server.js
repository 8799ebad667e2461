// An SMSC by the npm package `smpp`. It prints one JSON line for each event and takes one JSON line for each command:
//   {"statuses": [88, 0]}   the command status of the next submit_sm, 0 when there are none left
//   {"silence": 1}          leave so many submit_sm without a response
//   {"deliver": {...}}      send a deliver_sm; short_message is in hex
//   {"unbind": true}  {"destroy": true}  {"enquire": true}
// An accepted submit_sm that asks for a receipt gets one; its id is in hex in the response and in decimal in the receipt.
"use strict";

const readline = require("node:readline");
const smpp = require("smpp");

// Octets are reported as they came: the package's own decoding is not what is looked at.
smpp.filters.message.decode = (octets) => octets;

const sessions = new Set();
let statuses = [];
let silence = 0;
let count = 4711;

function say(event) {
  process.stdout.write(JSON.stringify(event) + "\n");
}

function fields(pdu) {
  const shown = {};
  for (const [name, value] of Object.entries(pdu)) {
    shown[name] = Buffer.isBuffer(value) ? value.toString("hex") : value;
  }
  return shown;
}

function deliver(session, values) {
  session.deliver_sm(values, (response) => say({ event: "deliver_sm_resp", status: response.command_status }));
}

function submitted(session, pdu) {
  say({ event: "submit_sm", ...fields(pdu) });
  if (silence > 0) {
    silence -= 1;
    return;
  }
  const status = statuses.shift() ?? 0;
  if (status) {
    session.send(pdu.response({ command_status: status }));
    return;
  }
  count += 1;
  session.send(pdu.response({ message_id: count.toString(16).toUpperCase() }));
  if (pdu.registered_delivery & 1) {
    deliver(session, {
      source_addr: pdu.destination_addr,
      destination_addr: pdu.source_addr,
      esm_class: 4,
      short_message: Buffer.from(
        `id:${count} sub:001 dlvrd:001 submit date:2611221530 done date:2611221531 stat:DELIVRD err:000 Text:`),
      message_state: 2,
    });
  }
}

const server = smpp.createServer((session) => {
  sessions.add(session);
  for (const command of ["bind_transceiver", "bind_transmitter", "bind_receiver"]) {
    session.on(command, (pdu) => {
      say({ event: command, ...fields(pdu) });
      const refused = pdu.password === "wrong";
      session.send(pdu.response(refused ? { command_status: smpp.ESME_RINVPASWD } : { system_id: "npm-smpp" }));
    });
  }
  session.on("submit_sm", (pdu) => submitted(session, pdu));
  session.on("query_sm", (pdu) =>
    session.send(pdu.response({ message_id: pdu.message_id, final_date: "", message_state: 1, error_code: 0 })));
  session.on("enquire_link", (pdu) => {
    say({ event: "enquire_link" });
    session.send(pdu.response());
  });
  session.on("unbind", (pdu) => {
    say({ event: "unbind" });
    session.send(pdu.response());
    session.close();
  });
  session.on("close", () => sessions.delete(session));
  session.on("error", (error) => say({ event: "error", message: error.message }));
});

readline.createInterface({ input: process.stdin }).on("line", (line) => {
  const command = JSON.parse(line);
  statuses = command.statuses ?? statuses;
  silence = command.silence ?? silence;
  for (const session of sessions) {
    if (command.deliver) {
      deliver(session, { ...command.deliver, short_message: Buffer.from(command.deliver.short_message, "hex") });
    }
    if (command.enquire) {
      session.enquire_link((response) => say({ event: "enquire_link_resp", status: response.command_status }));
    }
    if (command.unbind) {
      session.unbind((response) => {
        say({ event: "unbind_resp", status: response.command_status });
        session.close();
      });
    }
    if (command.destroy) {
      session.destroy();
    }
  }
  say({ event: "commanded" });
}).on("close", () => process.exit(0));

server.listen(0, "127.0.0.1", () => say({ event: "listening", port: server.address().port }));
