"""The view over HTTP: what a phone received, as text."""

import asyncio
import os
import socket
import sys
import time
from datetime import UTC, datetime
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harkara_smpp import DeliverSm, SubmitSm
from harkara_smsc_simulator.engine import cut
from harkara_smsc_simulator.store import Store
from harkara_smsc_simulator.text import (
    GSM_ALPHABET,
    GSM_EXTENSION,
    Concatenation,
    decode_text,
    encode_text,
    split_header,
)

_PHONE = "919876543210"


async def test_a_message_with_everything(carrier: Any, view: Any) -> None:
    before = time.monotonic()
    text = b"Code \x00 \x02 \x1b\x65 1\x1b\x3c2\x1b\x3e"
    outcome = await carrier.send("it", text=text, tlvs={0x1400: b"1101172974420810001", 0x1401: b"\x00\x01"})
    await carrier.until(lambda: carrier.receipts)
    (message,) = await view.get(f"/messages?to={_PHONE}")
    received_at = datetime.fromisoformat(message.pop("received_at"))
    assert abs((datetime.now(UTC) - received_at).total_seconds()) < 5
    assert before <= message.pop("received_monotonic") <= time.monotonic()
    assert message == {
        "to": _PHONE,
        "from": "HARKRA",
        "text": "Code @ $ € 1[2]",
        "parts": 1,
        "complete": True,
        "data_coding": 0,
        "esm_class": 0,
        "tlvs": [{"0x1400": "1101172974420810001", "0x1401": "0001"}],
        "system_id": "carrier",
        "message_id": outcome.message_id,
        "message_ids": [outcome.message_id],
        "receipt": "DELIVRD",
        "receipts": ["DELIVRD"],
    }


def _parts(text: str, reference: int) -> list[bytes]:
    octets = text.encode("utf-16-be")
    chunks = [octets[start : start + 131] for start in range(0, len(octets), 131)]  # cuts characters in two
    return [bytes((5, 0, 3, reference, len(chunks), number)) + chunk for number, chunk in enumerate(chunks, 1)]


async def test_parts_are_put_together_in_any_order(carrier: Any, view: Any) -> None:
    text = "नमस्ते 🙏 " * 30
    first, second = _parts(text, 1), _parts(text[::-1], 2)
    for number, octets in enumerate([*reversed(first), *second]):
        await carrier.send(number, text=octets, esm_class=0x40, data_coding=8)
    messages = await view.get(f"/messages?to={_PHONE}")
    assert [message["text"] for message in messages] == [text, text[::-1]]
    assert [message["parts"] for message in messages] == [len(first), len(second)]
    assert all(message["complete"] for message in messages)


async def test_a_repeated_reference_begins_a_new_message(carrier: Any, view: Any) -> None:
    for number in range(2):
        for part in (1, 2):
            octets = bytes((6, 8, 4, 1, 2, 2, part)) + f"{number}{part}".encode()
            await carrier.send((number, part), text=octets, esm_class=0x40)
    assert [message["text"] for message in await view.get("/messages")] == ["0102", "1112"]


async def test_an_incomplete_message_says_so(carrier: Any, view: Any) -> None:
    await carrier.send("half", text=bytes((5, 0, 3, 1, 2, 2)) + b"half", esm_class=0x40)
    (message,) = await view.get("/messages")
    assert (message["text"], message["parts"], message["complete"]) == ("half", 2, False)


async def test_sar_parameters_and_message_payload(carrier: Any, view: Any) -> None:
    for part, text in enumerate((b"one ", b"two"), 1):
        sar = {0x020C: b"\x00\x07", 0x020E: b"\x02", 0x020F: bytes((part,))}
        await carrier.send(part, text=text, tlvs=sar)
    await carrier.send("payload", text=b"", tlvs={0x0424: b"x" * 300})
    assert [message["text"] for message in await view.get("/messages")] == ["one two", "x" * 300]


async def test_only_the_phones_own_messages_newest_last(carrier: Any, view: Any) -> None:
    for number in range(5):
        await carrier.send(number, text=str(number).encode())
        await carrier.send(("other", number), to="919876543211", text=b"other " + _PHONE.encode())
    messages = await view.get(f"/messages?to={_PHONE}&limit=3")
    assert [message["text"] for message in messages] == ["2", "3", "4"]
    assert await view.get("/messages?to=919000000000") == []
    assert await view.get("/messages?limit=0") == []


async def test_arrivals(carrier: Any, view: Any) -> None:
    before = time.monotonic()
    for number in range(3):
        await carrier.send(number, to=f"91987654321{number}")
    arrivals = await view.get("/arrivals")
    assert [to for to, _ in arrivals] == ["919876543210", "919876543211", "919876543212"]
    times = [at for _, at in arrivals]
    assert before <= times[0]
    assert times == sorted(times)
    assert await view.get(f"/arrivals?since={times[1]}") == [["919876543212", times[2]]]
    assert len(await view.get("/arrivals?limit=2")) == 2


async def test_stats_count_duplicates_by_phone_and_text(carrier: Any, view: Any) -> None:
    await carrier.send(1, text=b"same")
    await carrier.send(2, text=b"same")
    await carrier.send(3, to="919876543211", text=b"same")
    for reference in (1, 2):
        await carrier.send((4, reference), text=bytes((5, 0, 3, reference, 2, 1)) + b"part", esm_class=0x40)
    await carrier.until(lambda: len(carrier.receipts) == 5)
    stats = await view.get("/stats")
    assert (stats["submits"], stats["accepted"], stats["receipts"], stats["duplicates"]) == (5, 5, 5, 2)
    assert stats["sessions"] == ["carrier"]
    assert stats["system_ids"]["carrier"]["submits"] == 5
    await view.call("POST", "/reset")
    stats = await view.get("/stats")
    assert (stats["submits"], stats["duplicates"], stats["kept"]) == (0, 0, 0)
    assert await view.get("/messages") == []


async def test_behaviour_is_set_and_restored(view: Any) -> None:
    status, now = await view.call("PUT", "/behaviour", {"receipt_delay_s": 2})
    assert (status, now["receipt_delay_s"]) == (200, 2)
    status, now = await view.call("PUT", "/behaviour?system_id=jio", {"id_form": "hex"})
    assert (now["id_form"], now["receipt_delay_s"]) == ("hex", 2)
    shown = await view.get("/behaviour")
    assert (shown["all"]["id_form"], shown["system_ids"]) == ("decimal", {"jio": {"id_form": "hex"}})
    assert (await view.call("PUT", "/behaviour", {"nonsense": 1}))[0] == 400
    assert (await view.call("PUT", "/behaviour", [1]))[0] == 400
    await view.call("DELETE", "/behaviour")
    shown = await view.get("/behaviour")
    assert (shown["all"]["receipt_delay_s"], shown["system_ids"]) == (0, {})


@pytest.mark.parametrize("text", ["STOP", "नमस्ते", "long {} " * 60, "🙏" * 80])
async def test_a_phone_sends(new_carrier: Any, view: Any, text: str) -> None:
    await new_carrier("first")
    second = await new_carrier("second")
    asked = {"from": _PHONE, "to": "56161", "text": text, "system_id": "second"}
    status, answer = await view.call("POST", "/messages", asked)
    assert status == 202
    await second.until(lambda: len(second.from_phones) == answer["parts"])
    pdus = [delivery.pdu for delivery in second.from_phones]
    assert {(pdu.source_addr, pdu.destination_addr) for pdu in pdus} == {(_PHONE, "56161")}
    assert all(isinstance(pdu, DeliverSm) and len(pdu.short_message) <= 160 for pdu in pdus)
    texts = [split_header(pdu.short_message)[1] if pdu.esm_class & 0x40 else pdu.short_message for pdu in pdus]
    assert decode_text(pdus[0].data_coding, b"".join(texts)) == text


async def test_a_phone_cannot_send_to_nobody_or_nonsense(view: Any) -> None:
    assert (await view.call("POST", "/messages", {"from": "1", "to": "2", "text": "x"}))[0] == 409
    assert (await view.call("POST", "/messages", {"from": "1", "to": "2"}))[0] == 400
    assert (await view.call("POST", "/messages", {"from": "1", "to": "2", "text": "x" * 3000}))[0] == 400
    assert (await view.call("POST", "/messages", {"from": "1" * 30, "to": "2", "text": "x"}))[0] == 400
    assert (await view.call("GET", "/messages?limit=-1"))[0] == 400


async def test_connections_are_dropped_on_demand(carrier: Any, view: Any) -> None:
    assert (await view.call("POST", "/drop?system_id=nobody"))[1] == {"dropped": 0}
    assert (await view.call("POST", "/drop"))[1] == {"dropped": 1}
    await carrier.until(lambda: not carrier.bound)
    await carrier.until(lambda: carrier.bound)


async def test_the_page_and_the_magic_numbers(view: Any) -> None:
    assert "<title>SMSC simulator</title>" in await view.text("/")
    assert (await view.get("/magic-numbers"))["delivered"].startswith("91")


async def test_the_program_serves_until_it_is_told_to_end() -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        port, http_port = (str(server.getsockname()[1]) for server in (one, other))
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "from harkara_smsc_simulator.app import main; main()",
        env={
            **os.environ,
            "HARKARA_SMSC_PORT": port,
            "HARKARA_SMSC_HTTP_PORT": http_port,
            "HARKARA_SMSC_ID_FORM": "hex",
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(20), aiohttp.ClientSession() as client:
        while True:
            try:
                response = await client.get(f"http://127.0.0.1:{http_port}/behaviour")
            except aiohttp.ClientConnectorError:
                await asyncio.sleep(0.05)  # another program's socket: there is nothing to await
            else:
                break
        assert (await response.json())["all"]["id_form"] == "hex"
        process.terminate()
        assert await process.communicate() == (b"", b"")
    assert process.returncode == 0


# Without a session


def test_the_ring_keeps_the_last_ones_and_forgets_the_duplicates_of_the_rest() -> None:
    store = Store(capacity=3, first_number=100)
    numbers = [store.add(bytes((index,)), "x", float(index), digest=index % 2) for index in range(5)]
    assert numbers == [100, 101, 102, 103, 104]
    assert list(store.numbers()) == [102, 103, 104]
    assert [store.body(number) for number in store.numbers()] == [b"\x02", b"\x03", b"\x04"]
    assert [store.received_monotonic(number) for number in store.numbers()] == [2.0, 3.0, 4.0]
    assert 101 not in store
    store.set_receipt_state(101, 2)
    store.set_receipt_state(104, 2)
    assert [store.receipt_state(number) for number in store.numbers()] == [0, 0, 2]
    assert store.duplicates == 3
    store.clear()
    assert (len(store), store.duplicates) == (0, 0)
    assert store.add(b"", "x", 0.0, digest=0) == 105


@given(st.integers(1, 7), st.lists(st.integers(0, 3), max_size=40))
def test_the_ring_is_a_list_cut_at_its_capacity(capacity: int, digests: list[int]) -> None:
    store = Store(capacity, first_number=1)
    for index, digest in enumerate(digests):
        store.add(str(index).encode(), str(index), float(index), digest)
    kept = [store.body(number) for number in store.numbers()]
    assert kept == [str(index).encode() for index in range(len(digests))][-capacity:]
    assert sum(store._seen.values()) == len(kept)


addresses = st.text(st.characters(min_codepoint=1, max_codepoint=255), max_size=20)


@given(
    addresses, addresses, st.binary(max_size=254), st.integers(0, 255), st.dictionaries(st.integers(0, 9), st.binary())
)
def test_cutting_finds_what_decoding_finds(
    source: str, destination: str, text: bytes, flags: int, tlvs: dict[int, bytes]
) -> None:
    pdu = SubmitSm(
        service_type="CMT",
        source_addr_ton=flags,
        source_addr=source,
        dest_addr_npi=flags,
        destination_addr=destination,
        esm_class=flags,
        validity_period="000001000000000R",
        registered_delivery=flags,
        short_message=text,
        tlvs=tlvs,
    )
    body = pdu.to_body()
    pieces = cut(body)
    assert pieces.number.decode("latin-1") == destination
    assert pieces.source == bytes((flags, 0)) + source.encode("latin-1") + b"\0"
    assert pieces.destination == bytes((0, flags)) + destination.encode("latin-1") + b"\0"
    assert (pieces.esm_class, pieces.registered_delivery) == (flags, flags)
    assert body[pieces.rest + 3 : pieces.rest + 3 + len(text)] == text


@given(st.binary(max_size=120))
def test_cutting_accepts_only_what_decodes_up_to_its_text(body: bytes) -> None:
    try:
        pieces = cut(body)
    except (ValueError, IndexError):
        return
    assert pieces.rest + 3 + body[pieces.rest + 2] <= len(body)


def test_the_alphabet_has_its_size_and_its_known_places() -> None:
    assert len(GSM_ALPHABET) == 128
    assert len(set(GSM_ALPHABET)) == 128
    places = {0x00: "@", 0x02: "$", 0x09: "Ç", 0x10: "Δ", 0x24: "¤", 0x40: "¡", 0x5F: "§", 0x60: "¿", 0x7F: "à"}
    assert {place: GSM_ALPHABET[place] for place in places} == places
    assert decode_text(0, b"\x1b\x65\x1b\x41\x1b") == "€A"
    assert decode_text(0, b"\x80") == "\N{REPLACEMENT CHARACTER}"


@pytest.mark.parametrize(
    ("data_coding", "octets", "text"),
    [(1, b"a\xff", "a\N{REPLACEMENT CHARACTER}"), (3, b"\xe9", "é"), (8, b"\x09\x05", "अ"), (4, b"\x01\xff", "01ff")],
)
def test_other_codings(data_coding: int, octets: bytes, text: str) -> None:
    assert decode_text(data_coding, octets) == text


@given(st.text(st.sampled_from(GSM_ALPHABET.replace("\x1b", "") + "".join(GSM_EXTENSION.values())), max_size=400))
def test_what_a_phone_encodes_is_decoded(text: str) -> None:
    parts = encode_text(text)
    octets = b"".join(split_header(one)[1] if esm_class else one for esm_class, _, one in parts)
    assert decode_text(0, octets) == text
    assert all(len(one) <= 160 for _, _, one in parts)


@pytest.mark.parametrize(
    ("octets", "expected"),
    [
        (b"\x05\x00\x03\x07\x02\x01abc", (Concatenation(7, 2, 1), b"abc")),
        (b"\x06\x08\x04\x01\x07\x02\x01abc", (Concatenation(263, 2, 1), b"abc")),
        (b"\x08\x24\x01\x06\x00\x03\x07\x02\x01abc", (Concatenation(7, 2, 1), b"abc")),
        (b"\x03\x24\x01\x06abc", (None, b"abc")),
        (b"\x00abc", (None, b"abc")),
        (b"\xffabc", (None, b"\xffabc")),
        (b"", (None, b"")),
    ],
)
def test_user_data_headers(octets: bytes, expected: tuple[Concatenation | None, bytes]) -> None:
    assert split_header(octets) == expected


@given(st.binary(max_size=300))
def test_no_header_breaks_the_view(octets: bytes) -> None:
    _, text = split_header(octets)
    assert octets.endswith(text)
