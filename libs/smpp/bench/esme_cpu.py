# ruff: noqa: INP001, T201 - a script that prints
"""CPU of the ESME for each message: submit, response, receipt parsed and answered.

The SMSC runs in a process of its own, so that the figure is the ESME's alone.
Run: python libs/smpp/bench/esme_cpu.py [messages]
"""

import asyncio
import multiprocessing
import sys
import time
from datetime import UTC, datetime
from multiprocessing.connection import Connection

import uvloop

from harkara_smpp import (
    Accepted,
    Delivery,
    Esme,
    EsmeConfig,
    MessageState,
    Outcome,
    StateChange,
    SubmitSm,
    parse_receipt,
)
from harkara_smpp.frame import Frame, encode_frame
from harkara_smpp.pdu import Bind, DeliverSm
from harkara_smpp.receipt import receipt_text, receipt_tlvs
from harkara_smpp.smsc import Smsc, SmscConfig, SmscHandlers, SmscSession

TLVS = {0x1400: b"1101172974420810001", 0x1401: b"1107161234567890123", 0x1402: b"a" * 64}


class EchoSession(SmscSession):
    """Accepts everything and sends a receipt at once."""

    count = 0

    def submits_received(self, frames: list[Frame]) -> None:
        now = datetime.now(UTC)
        for frame in frames:
            EchoSession.count += 1
            message_id = str(EchoSession.count)
            self.write(encode_frame(0x80000004, frame.sequence_number, message_id.encode() + b"\0"))
            text = receipt_text(message_id, MessageState.DELIVRD, submit_date=now, done_date=now)
            self.deliver(
                DeliverSm(
                    source_addr="919876543210",
                    destination_addr="HARKRA",
                    esm_class=4,
                    short_message=text.encode(),
                    tlvs=receipt_tlvs(message_id, MessageState.DELIVRD),
                )
            )


async def _smsc(pipe: Connection) -> None:
    async def authenticate(_session: SmscSession, _bind: Bind) -> int:
        return 0

    smsc = Smsc(
        SmscConfig(window=1000), SmscHandlers(authenticate=authenticate, on_submit=lambda _s, _l: None), EchoSession
    )
    await smsc.start()
    pipe.send(smsc.port)
    await asyncio.get_running_loop().run_in_executor(None, pipe.recv)
    await smsc.stop()


def _smsc_process(pipe: Connection) -> None:
    uvloop.run(_smsc(pipe))


async def _esme(port: int, messages: int) -> None:
    bound, done = asyncio.Event(), asyncio.Event()
    accepted = receipts = 0

    def on_outcomes(outcomes: list[tuple[int, Outcome]]) -> None:
        nonlocal accepted
        accepted += sum(type(outcome) is Accepted for _, outcome in outcomes)

    def on_deliver(deliveries: list[Delivery]) -> None:
        nonlocal receipts
        for delivery in deliveries:
            receipt = parse_receipt(delivery.pdu)
            receipts += receipt is not None and receipt.state is MessageState.DELIVRD
            delivery.accept()
        if receipts == messages:
            done.set()

    def on_state(change: StateChange) -> None:
        if change.state == "bound":
            bound.set()

    config = EsmeConfig(host="127.0.0.1", port=port, system_id="bench", tps=1e6, window=200)
    esme = Esme[int](config, on_outcomes=on_outcomes, on_deliver=on_deliver, on_state=on_state)
    await esme.start()
    await bound.wait()
    wall, cpu = time.perf_counter(), time.process_time()
    number = 0
    while number < messages:
        for _ in range(min(await esme.room(), messages - number)):
            esme.submit(
                SubmitSm(
                    source_addr_ton=5,
                    source_addr="HARKRA",
                    dest_addr_ton=1,
                    dest_addr_npi=1,
                    destination_addr="919876543210",
                    registered_delivery=1,
                    short_message=b"Your Harkara code is 482913. It is valid for ten minutes. Do not share it.",
                    tlvs=TLVS,
                ),
                number,
            )
            number += 1
    await done.wait()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    await esme.stop()
    print(f"{messages} messages, {accepted} accepted, {receipts} receipts in {wall:.2f} s: {messages / wall:,.0f}/s")
    print(f"ESME CPU {cpu / messages * 1e6:.1f} µs a message")


def main() -> None:
    ours, theirs = multiprocessing.Pipe()
    smsc = multiprocessing.Process(target=_smsc_process, args=(theirs,))
    smsc.start()
    uvloop.run(_esme(ours.recv(), int(sys.argv[1]) if len(sys.argv) > 1 else 20_000))
    ours.send("stop")
    smsc.join()


if __name__ == "__main__":
    main()
