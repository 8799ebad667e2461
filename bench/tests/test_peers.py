import argparse
import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import threading
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import pytest
from bench import account
from bench.load import FIRST_NUMBER, ORDER, TO, Load, LoadPlan, LoadResult, Template, answer_end
from bench.peers import harkara, jasmin, kannel
from bench.peers.callbacks import Callbacks, CallbackSink
from bench.peers.command import add_options, as_json, options_of
from bench.peers.figures import Phase, Spending, median_of, phase_of
from bench.peers.install import install_packages
from bench.peers.measure import Options, Result, measure
from bench.peers.peer import HOST, TEXT, Peer, Processes, Running, Wiring, free_ports, get_request
from bench.peers.table import markdown
from bench.peers.tree import is_alive, tree_of
from bench.worker import BenchError

from harkara_smpp import Accepted, Delivery, Esme, EsmeConfig, Outcome, SubmitSm, parse_receipt

SPENDING = Spending(cpu_s=0.5, peak_rss_mib=50.0, pss_mib=40.0, bench_cpu_s=0.1, others_share=0.01)


# Requests and callbacks


def test_a_request_by_get_has_its_number_in_both_places_and_a_text_of_its_own() -> None:
    request = get_request(8080, "/send", {"to": TO, "text": TEXT, "dlr-url": f"http://127.0.0.1:1/{TO}/%d"})
    plan = LoadPlan(host=HOST, port=8080, request=request, first_number=FIRST_NUMBER, count=1, connections=1)
    line, _, rest = Template(plan).request(919_876_543_210).partition(b"\r\n")
    query = parse_qs(urlsplit(line.split(b" ")[1]).query)
    assert query == {
        b"to": [b"919876543210"],
        b"text": [TEXT.replace(ORDER, "JBJIHGFEDCBA").encode()],
        b"dlr-url": [b"http://127.0.0.1:1/919876543210/%d"],
    }
    assert rest == b"Host: 127.0.0.1:8080\r\n\r\n"


def test_the_text_is_that_of_our_own_template() -> None:
    filled = account._BODY.replace("{#str:name#}", "Asha").replace("{#str:order_id#}", ORDER)
    assert filled.replace("{#str:date#}", "12 December") == TEXT
    assert 100 <= len(TEXT) <= 120


@pytest.mark.parametrize(
    ("final_receipt", "head", "body", "number"),
    [
        (kannel.final_receipt, b"GET /919876543210/1 HTTP/1.1\r\nHost: x", b"", 919_876_543_210),
        (kannel.final_receipt, b"GET /919876543210/8 HTTP/1.1\r\nHost: x", b"", 0),
        (kannel.final_receipt, b"GET /919876543210/2 HTTP/1.1\r\nHost: x", b"", 0),
        (
            jasmin.final_receipt,
            b"GET /919876543210?id=1&id_smsc=2&message_status=DELIVRD&level=3 HTTP/1.1",
            b"",
            919_876_543_210,
        ),
        (jasmin.final_receipt, b"GET /919876543210?id=1&message_status=ESME_ROK&level=1 HTTP/1.1", b"", 0),
        (
            harkara.final_receipt,
            b"POST /webhooks HTTP/1.1",
            b'{"event":"message.delivered","message_id":"TN1","to":"919876543210"}',
            919_876_543_210,
        ),
        (harkara.final_receipt, b"POST /webhooks HTTP/1.1", b'{"event":"message.sent","to":"919876543210"}', 0),
    ],
)
def test_only_a_delivery_is_a_final_receipt(final_receipt: Any, head: bytes, body: bytes, number: int) -> None:
    assert final_receipt(head, body) == number


def test_the_end_of_an_answer_is_known_by_its_length_or_its_last_chunk() -> None:
    with_length = b"HTTP/1.1 202 Accepted\r\nContent-Length: 4\r\n\r\nSent"
    assert answer_end(with_length, with_length.index(b"\r\n\r\n")) == len(with_length)
    assert answer_end(with_length[:-1], with_length.index(b"\r\n\r\n")) is None
    chunked = b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n"1"\r\n0\r\n\r\n'
    assert answer_end(chunked, chunked.index(b"\r\n\r\n")) == len(chunked)
    assert answer_end(chunked[:-5], chunked.index(b"\r\n\r\n")) is None


async def next_head(reader: asyncio.StreamReader) -> bytes:
    """Empty when the client has gone."""
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return b""


async def test_what_a_peer_accepts_is_counted_by_its_own_status() -> None:
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await next_head(reader):
            writer.write(b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n"1"\r\n0\r\n\r\n')
        writer.close()
        ended.set()

    server = await asyncio.start_server(serve, HOST, 0)
    port = server.sockets[0].getsockname()[1]
    plan = LoadPlan(
        host=HOST, port=port, request=get_request(port, "/send", {"to": TO}), success=200, first_number=FIRST_NUMBER,
        count=5, connections=1,
    )  # fmt: skip
    result = await Load(plan).run()
    assert result.accepted == [0, 1, 2, 3, 4]
    assert result.refusal == ""
    await ended.wait()
    server.close()


async def test_the_sink_counts_final_callbacks_by_number_and_answers_as_jasmin_wants() -> None:
    sink = CallbackSink(final_receipt=kannel.final_receipt)
    listening = await sink.start()
    reader, writer = await asyncio.open_connection(HOST, sink.port)
    for path in ("/911/8", "/911/1", "/912/1", "/911/1", "/nonsense"):
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert (await reader.readuntil(b"ACK/Jasmin")).startswith(b"HTTP/1.1 200 OK")
    assert sink.final() == 2
    taken = sink.take()
    assert (list(taken.first), taken.repeated, taken.others, taken.malformed) == ([911, 912], 1, 1, 1)
    assert sink.final() == 0
    writer.write(b"GET /911/1 HTTP/1.1\r\nConnection: close\r\n\r\n")
    assert (await reader.read()).endswith(b"ACK/Jasmin")
    writer.close()
    listening.close()


# Figures and the table


def load(statuses: list[int], success: int = 202) -> LoadResult:
    """Message i begins at 100 + i and is answered 0.5 s later."""
    count = len(statuses)
    return LoadResult(
        first_number=FIRST_NUMBER,
        begun=array("d", [100.0 + index for index in range(count)]),
        answered=array("d", [100.5 + index if status else 0.0 for index, status in enumerate(statuses)]),
        status=array("H", statuses),
        message_ids=[""] * count,
        late_s=[],
        connections_lost=0,
        refusal="",
        last_error="",
        success=success,
    )


def test_a_phase_is_joined_by_number() -> None:
    submits = [(FIRST_NUMBER, 101.0), (FIRST_NUMBER + 1, 102.0), (FIRST_NUMBER + 1, 102.5), (1, 50.0)]
    callbacks = Callbacks({FIRST_NUMBER: 104.0, 1: 60.0}, repeated=2, others=3, malformed=0)
    phase = phase_of(load([200, 200, 503], success=200), submits, callbacks, SPENDING)
    assert (phase.sent, phase.accepted, phase.submitted, phase.called_back) == (3, 2, 2, 1)
    assert (phase.submitted_twice, phase.called_back_twice, phase.other_callbacks, phase.missing) == (1, 2, 3, 1)
    assert (phase.accepted_rate, phase.submitted_rate, phase.end_to_end) == pytest.approx((1.0, 1.0, 1 / 4))
    assert (phase.to_submit.p50_ms, phase.to_callback.p50_ms) == pytest.approx((1000.0, 4000.0))
    assert phase.cpu_s_per_1000 == pytest.approx(250.0)


def test_a_median_keeps_the_least_and_the_most() -> None:
    value = median_of([3.0, 1.0, 8.0])
    assert value is not None
    assert (value.middle, value.least, value.most, value.count) == (3.0, 1.0, 8.0, 3)
    assert median_of([]) is None


def peer(name: str, title: str) -> Peer:
    return Peer(name, title, {"main": 20_000}, 10, kannel.final_receipt, lambda _: None, _unused)


@contextmanager
def _unused(_: Wiring) -> Iterator[Running]:
    raise AssertionError
    yield


def phase(rate: float, missing: int = 0, **spending: float) -> Phase:
    """All messages end `1000 / rate` seconds after the first has begun."""
    result = load([202] * 1000)
    numbers = range(FIRST_NUMBER, FIRST_NUMBER + 1000)
    times = [(number, 100.0 + (index + 1) / rate) for index, number in enumerate(numbers)]
    callbacks = Callbacks(dict(times[missing:]), 0, 0, 0)
    used = Spending(**{**vars(SPENDING), **spending})
    return phase_of(result, times, callbacks, used)


OPTIONS = Options(
    peers=[peer("kannel", "Kannel, memory"), peer("harkara", "Harkara")], variants=["main"], cache=Path(), rounds=3
)


def measured() -> Result:
    result = Result()
    for rate in (1000.0, 2000.0, 4000.0):
        result.add(OPTIONS.peers[0], "main", phase(rate))
    for rate in (1000.0, 3000.0, 2000.0):
        result.add(OPTIONS.peers[1], "main", phase(rate))
    return result


def test_the_table_has_medians_ranges_and_ratios() -> None:
    lines = markdown(measured(), OPTIONS).splitlines()
    assert lines[0] == "| median of 3 (min-max) | Kannel, memory | Harkara | Harkara ÷ Kannel, memory |"
    assert "| **end to end/s** | 2,000 (1,000-4,000) | 2,000 (1,000-3,000) | 1.00 |" in lines
    assert not [line for line in lines if "at 50/s" in line]
    assert "Harkara ÷ peer: end to end, Kannel memory 1.00." in lines
    assert not [line for line in lines if line.startswith(("NOISY", "FAILED"))]


def test_noise_losses_and_failures_are_told() -> None:
    result = measured()
    result.add(OPTIONS.peers[0], "main", phase(2000.0, missing=7, others_share=0.5))
    result.failures.append("round 2, Harkara: it did not start")
    text = markdown(result, OPTIONS)
    assert "NOISY: in 1 phases" in text
    assert "Kannel, memory, main: 7 accepted messages were never called back as delivered" in text
    assert "FAILED round 2, Harkara: it did not start" in text


def test_a_table_of_nothing_is_no_error() -> None:
    assert "Harkara" in markdown(Result(failures=["round 1, Harkara: no"]), OPTIONS)


def test_every_round_goes_to_json() -> None:
    document = as_json(measured(), OPTIONS)
    assert len(document["phases"]["kannel"]["main"]) == 3
    assert document["medians"]["harkara"]["main: end to end/s"]["most"] == pytest.approx(3000.0)


def arguments(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_options(parser)
    return parser.parse_args(words)


def test_messages_scale_every_peers_own_numbers() -> None:
    options = options_of(arguments("--peers", "jasmin,kannel", "--messages", "4000", "--rounds", "5"))
    assert [one.name for one in options.peers] == ["jasmin", "kannel"]
    assert [options.count(one, "main") for one in options.peers] == [600, 4000]
    assert options.count(options.peers[0], "slow") == 100


@pytest.mark.parametrize(
    "words", [("--peers", "nobody"), ("--variants", "fast"), ("--rounds", "0"), ("--messages", "0")]
)
def test_what_cannot_be_measured_is_refused(words: tuple[str, str]) -> None:
    with pytest.raises(BenchError):
        options_of(arguments(*words))


# Installing and running


LISTENERS = """\
            if r.response.status == CommandStatus.ESME_ROK:
                dlr = DLR(pdu_type=_pdu.response.id, msgid=msgid, status=_pdu.response.status,
                          smpp_msgid=_pdu.response.params['message_id'])
            else:
                dlr = DLR(pdu_type=_pdu.response.id, msgid=msgid, status=_pdu.response.status)
            other = _pdu.response.id
"""


def test_jasmins_receipts_are_mended_once_and_nothing_else_is_touched() -> None:
    mended = jasmin.mend(LISTENERS)
    assert mended.count("_pdu.response") == 1
    assert "other = _pdu.response.id" in mended
    assert "smpp_msgid=r.response.params" in mended
    assert jasmin.mend(mended) == mended
    with pytest.raises(BenchError):
        jasmin.mend("something else")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    install_packages({"python3": Path(sys.executable)})
    with pytest.raises(BenchError, match="apt-get install --no-install-recommends kannel"):
        install_packages({"kannel": tmp_path / "bearerbox", "python3": Path(sys.executable)})


def test_processes_end_with_all_that_they_started(tmp_path: Path) -> None:
    with Processes(tmp_path) as processes:
        # A child in a session of its own that takes no notice of SIGTERM.
        child = "import os,signal,time; os.setsid(); signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
        parent = f"import subprocess,sys,time; subprocess.Popen([sys.executable, '-c', {child!r}]); time.sleep(60)"
        processes.start("parent", [sys.executable, "-c", parent])
        log = tmp_path / "parent.out"
        while "up" not in log.read_text():
            processes.check()
        family = tree_of(processes.pids().values())
        assert len(family) == 2
        assert all(is_alive(entry) for entry in family)
    assert not any(is_alive(entry) for entry in family)


def test_a_process_that_ends_is_told_with_its_last_words(tmp_path: Path) -> None:
    with Processes(tmp_path) as processes:
        processes.start("broken", [sys.executable, "-c", "raise SystemExit('no such carrier')"])
        with pytest.raises(BenchError, match="broken has ended with 1: no such carrier"):
            processes.wait_for_port(free_ports(1)[0], "broken")


class _Gateway:
    """A peer in a thread: takes Kannel's requests, submits by our ESME, calls back as Kannel does."""

    def __init__(self, wiring: Wiring) -> None:
        self._wiring = wiring
        self._numbers: dict[str, str] = {}
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))
        self.port = 0

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join()

    async def _serve(self) -> None:
        self._loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
        _, self._callback = await asyncio.open_connection(HOST, self._wiring.sink_port)
        self._esme = Esme[str](
            EsmeConfig(host=HOST, port=self._wiring.carrier_port, system_id="stub", tps=1e6, drain_timeout_s=0.2),
            on_outcomes=self._on_outcomes,
            on_deliver=self._on_deliver,
            on_state=lambda _: None,
        )
        await self._esme.start()
        server = await asyncio.start_server(self._on_connection, HOST, 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._ended.wait()
        server.close()
        await self._esme.stop()
        self._callback.close()

    async def _on_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await next_head(reader):
            query = parse_qs(urlsplit(head.split(b" ")[1]).query)
            to = query[b"to"][0].decode()
            await self._esme.room()
            pdu = SubmitSm(destination_addr=to, short_message=query[b"text"][0], registered_delivery=1)
            self._esme.submit(pdu, to)
            writer.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    def _on_outcomes(self, outcomes: list[tuple[str, Outcome]]) -> None:
        for to, outcome in outcomes:
            assert isinstance(outcome, Accepted)
            self._numbers[outcome.message_id] = to

    def _on_deliver(self, deliveries: list[Delivery]) -> None:
        for delivery in deliveries:
            delivery.accept()
            receipt = parse_receipt(delivery.pdu)
            assert receipt is not None
            self._callback.write(f"GET /{self._numbers[receipt.message_id]}/1 HTTP/1.1\r\nHost: x\r\n\r\n".encode())


@contextmanager
def _stub(wiring: Wiring) -> Iterator[Running]:
    with _Gateway(wiring) as gateway:
        request = get_request(gateway.port, "/send", {"to": TO, "text": TEXT})
        plan = LoadPlan(
            host=HOST, port=gateway.port, request=request, success=202, first_number=0, count=0, connections=10
        )
        yield Running(plan, lambda: {"stub": os.getpid()}, lambda: None)


def _broken(_: Wiring) -> Any:
    raise BenchError("it does not start")


def test_peers_are_run_in_turn_and_one_that_fails_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    messages = {"main": 20_000, "acks": 20_000, "slow": 20_000}
    stub = Peer("stub", "Stub", messages, 10, kannel.final_receipt, lambda _: None, _stub)
    broken = Peer("broken", "Broken", messages, 10, kannel.final_receipt, lambda _: None, _broken)
    options = Options(
        peers=[broken, stub], variants=["main", "slow"], cache=tmp_path, rounds=1, messages=100, quiet_s=0.4
    )
    said: list[str] = []
    result = measure(options, said.append, lambda _: None)
    assert result.failures == ["round 1, Broken: it does not start"]
    phases = result.phases["stub"]
    assert list(phases) == ["quiet", "main", "slow"]
    for name, count in (("quiet", 20), ("main", 100), ("slow", 100)):
        (one,) = phases[name]
        assert (one.accepted, one.submitted, one.called_back, one.missing) == (count, count, count, 0)
        assert one.to_callback.p50_ms > one.to_submit.p50_ms + 150
        assert one.spending.cpu_s > 0
    assert "Stub" in markdown(result, options)
    assert not list(tmp_path.iterdir())


def test_ctrl_c_leaves_nothing_behind(tmp_path: Path) -> None:
    """The whole command, interrupted while its peer starts."""
    script = tmp_path / "interrupted.py"
    script.write_text(
        "import signal, sys, time\n"
        "from contextlib import contextmanager\n"
        "from pathlib import Path\n"
        "from bench.peers import kannel\n"
        "from bench.peers.measure import Options, measure\n"
        "from bench.peers.peer import Peer, Processes\n"
        "@contextmanager\n"
        "def running(wiring):\n"
        "    with Processes(wiring.folder) as processes:\n"
        "        processes.start('sleeper', [sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "        print('PID', *processes.pids().values(), wiring.folder, flush=True)\n"
        "        time.sleep(60)\n"
        "        yield\n"
        "if __name__ == '__main__':\n"
        # Ignored where the tests themselves run in the background of a shell.
        "    signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "    peer = Peer('sleeper', 'Sleeper', {'main': 100}, 1, kannel.final_receipt, lambda _: None, running)\n"
        "    measure(Options(peers=[peer], variants=['main'], cache=Path('.')), lambda _: None, lambda _: None)\n"
    )
    root = Path(__file__).parents[2]
    with subprocess.Popen(  # noqa: S603  # the script above
        [sys.executable, str(script)],
        env={**os.environ, "PYTHONPATH": str(root)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        _, pid, folder = process.stdout.readline().split()
        (sleeper,) = tree_of([int(pid)])
        process.send_signal(signal.SIGINT)
        process.wait(timeout=30)
    assert not is_alive(sleeper)
    assert not Path(folder).exists()
