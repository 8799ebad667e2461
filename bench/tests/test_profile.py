from pathlib import Path

import pytest
from bench.profile.counters import Counters, Statement
from bench.profile.layers import Layer, layer_of, profile_of
from bench.profile.sampling import Sampler
from bench.profile.table import BEGIN, END, renew
from bench.worker import BenchError

ROOT = "_run_module_as_main (<frozen runpy>:198);run (harkara_chassis/service.py:298);run_forever (loop.c:33397)"


@pytest.mark.parametrize(
    ("frames", "layer"),
    [
        ("send_sms (harkara_ingress/http/routes/sending.py:87)", Layer.HTTP_SERVER),
        (
            "HttpToolsProtocol.data_received (uvicorn/protocols/http/httptools_impl.py:50);feed (parser.c:9)",
            Layer.HTTP_SERVER,
        ),
        (
            "_end (harkara_webhook_dispatcher/connection.py:90);feed (parser.c:9);on_body (llhttp.c:1)",
            Layer.HTTP_CLIENT,
        ),
        ("judge (harkara_registry/verdict.py:50)", Layer.DOMAIN),
        ("delivered (harkara_routing/reading.py:5)", Layer.JSON),
        # What the domain makes of pydantic is pydantic's.
        (
            "plan (harkara_routing/saga.py:9);0x7fb3 (pydantic_core/_pydantic_core.cpython-311-x86_64-linux-gnu.so)",
            Layer.JSON,
        ),
        # The standard library's is that of its caller.
        ("verdict (harkara_compliance/verdict.py:5);replace (dataclasses.py:99);malloc (libc.so.6)", Layer.DOMAIN),
        ("decode (harkara_chassis/envelope.py:90)", Layer.JSON),
        ("take (harkara_chassis/pull.py:90)", Layer.BUS),
        ("_read_loop (nats/aio/client.py:5);StreamReader.read (asyncio/streams.py:7)", Layer.LOOP),
        ("apply (harkara_billing/store.py:7)", Layer.DATABASE),
        ("upsert (harkara_ingress/status/message_store.py:7);_execute (asyncpg/connection.py:1)", Layer.DATABASE),
        ("inc (prometheus_client/metrics.py:1)", Layer.TELEMETRY),
        ("Sender.post (harkara_webhook_dispatcher/sender.py:80);_request (aiohttp/client.py:1)", Layer.HTTP_CLIENT),
        ("from_body (harkara_smpp/pdu.py:1)", Layer.SMPP),
        ("post (aiohttp/client.py:1);write (libc.so.6)", Layer.SYSTEM),
        ("apply (harkara_billing/store.py:7);gc_collect_main (libpython3.11.so.1.0)", Layer.COLLECTOR),
        # `write` in Python is no system call.
        ("StreamWriter.write (aiohttp/http_writer.py:1)", Layer.HTTP_CLIENT),
    ],
)
def test_a_moment_belongs_to_the_innermost_frame_that_names_a_layer(frames: str, layer: Layer) -> None:
    assert layer_of(f"{ROOT};{frames}".split(";")) is layer


def test_nothing_known_is_other_and_the_bare_loop_is_the_loops() -> None:
    assert layer_of(["0x7fb3 (libc.so.6)", "main"]) is Layer.OTHER
    assert layer_of(["run (harkara_chassis/service.py:298)", "Loop__run (loop.c:20313)"]) is Layer.LOOP


def test_a_profile_counts_by_layer_and_each_function_once_a_moment() -> None:
    profile = profile_of(
        [
            "run (harkara_chassis/service.py:1);f (harkara_dlt/matching.py:2);f (harkara_dlt/matching.py:3) 5",
            "run (harkara_chassis/service.py:1);loads (orjson/orjson.cpython-311.so) 15",
            "_worker (concurrent/futures/thread.py:81);PyThread_acquire_lock_timed (libpython3.11.so.1.0);0x7f (libc.so.6) 80",
            "",
        ]
    )
    assert profile.samples == 20
    assert profile.layers == {Layer.DOMAIN: 5, Layer.JSON: 15}
    assert profile.functions["f (harkara_dlt/matching.py)"] == 5
    assert profile.functions["run (harkara_chassis/service.py)"] == 20


def counters(calls: float, inserts: float, statements: dict[tuple[str, str], Statement]) -> Counters:
    return Counters(
        totals={"commits": calls},
        tables={"billing.hold": {"inserts": inserts}},
        statements=statements,
        events={"billing": {"published": calls}},
    )


def test_counters_tell_what_came_between_two_moments() -> None:
    statement = Statement("billing", "select", calls=7, exec_ms=3.0, rows=70, wal_records=2)
    earlier = counters(10, 100, {("billing", "select"): Statement("billing", "select", 5, 1.0, 50, 2)})
    new = Statement("billing", "insert", 1, 1.0, 1, 1)
    later = counters(12, 150, {("billing", "select"): statement, ("billing", "insert"): new})
    between = later.since(earlier)
    assert between.totals == {"commits": 2}
    assert between.tables == {"billing.hold": {"inserts": 50}}
    assert between.events == {"billing": {"published": 2}}
    assert between.statements == {
        ("billing", "select"): Statement("billing", "select", 2, 2.0, 20, 0),
        ("billing", "insert"): new,
    }


def test_the_document_keeps_all_but_the_table(tmp_path: Path) -> None:
    document = tmp_path / "performance.md"
    document.write_text(f"# Before\n\n{BEGIN}\n\nold\n\n{END}\n\nafter\n")
    renew(document, "new\n")
    renew(document, "| newer |\n")
    assert document.read_text() == f"# Before\n\n{BEGIN}\n\n| newer |\n\n{END}\n\nafter\n"


def test_a_document_without_a_place_is_not_touched(tmp_path: Path) -> None:
    document = tmp_path / "performance.md"
    document.write_text("# Before\n")
    with pytest.raises(BenchError, match="no place"):
        renew(document, "new")
    assert document.read_text() == "# Before\n"


def test_it_is_told_why_nothing_can_be_sampled() -> None:
    sampler = Sampler({"billing": 2**22 - 1}, 1.0)  # no process has this number
    sampler.start()
    with pytest.raises(BenchError, match=r"cannot look into billing .*ptrace"):
        sampler.finish()
