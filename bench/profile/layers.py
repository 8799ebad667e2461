"""Which layer a sampled moment belongs to. Pure: reads what py-spy writes in its "raw" (collapsed stacks) format.

A moment belongs to the innermost frame that names a layer; frames that could be anybody's (the standard library, the
interpreter itself) are passed over on the way out. System calls and the collector are layers of their own, whoever
caused them: a loop writes and waits on everybody's behalf.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache


class Layer(StrEnum):
    """In the order of the table."""

    HTTP_SERVER = "HTTP server, ASGI"
    HTTP_CLIENT = "HTTP client"
    SMPP = "SMPP"
    JSON = "JSON, pydantic, envelopes"
    BUS = "bus: nats-py, chassis"
    DATABASE = "database client, rows"
    REDIS = "Redis client"
    DOMAIN = "domain"
    TELEMETRY = "logs, metrics, traces"
    LOOP = "event loop, tasks"
    SYSTEM = "system calls"
    COLLECTOR = "garbage collector"
    OTHER = "other"


_COLLECTORS = frozenset({"gc_collect_main", "gc_collect_generations", "gc_collect_with_callback"})
# A thread of an executor that waits for work is told as busy now and then.
_WAITING = ("PyThread_acquire_lock_timed (", "_worker (concurrent/futures/thread.py")
_INNERMOST = 4
_SYSTEM_LIBRARIES = ("libc.so", "libpthread", "ld-linux", "linux-vdso", "[vdso]")
_SYSTEM_CALLS = frozenset(
    {
        "write", "writev", "send", "sendto", "sendmsg", "read", "readv", "recv", "recvfrom", "recvmsg", "epoll_pwait",
        "epoll_wait", "epoll_ctl", "poll", "accept4", "accept", "connect", "close", "futex", "getpid",
    }
)  # fmt: skip
_PREFIXES: dict[Layer, tuple[str, ...]] = {
    Layer.JSON: (
        "pydantic", "orjson", "json/", "harkara_chassis/envelope.py", "harkara_chassis/views.py",
        "harkara_contracts/",
    ),
    Layer.TELEMETRY: (
        "prometheus_client", "opentelemetry", "logging", "harkara_chassis/logs.py", "harkara_chassis/metrics.py",
        "harkara_chassis/tracing.py",
    ),
    Layer.DATABASE: (
        "asyncpg", "protocol.c", "pgproto.c", "recordobj.c", "sqlalchemy", "sqlmodel", "harkara_chassis/database.py",
    ),
    Layer.REDIS: ("redis", "harkara_ingress/sending/idempotency.py"),
    Layer.BUS: ("nats", "harkara_chassis/"),
    Layer.SMPP: ("harkara_smpp/",),
    # What parses (llhttp) is in use at both ends: it belongs to its caller.
    Layer.HTTP_SERVER: ("uvicorn", "starlette", "fastapi", "harkara_ingress/http/"),
    Layer.HTTP_CLIENT: (
        "aiohttp", "aiosignal", "frozenlist", "yarl", "multidict", "_multidict.c", "htkeys.h", "hashtable.h", "iter.h",
        "views.h", "_http_parser.c", "_http_writer.c", "_helpers_c.c", "harkara_webhook_dispatcher/sender.py",
        "harkara_webhook_dispatcher/connection.py", "harkara_webhook_dispatcher/guard.py",
    ),
    Layer.DOMAIN: ("harkara_",),
    Layer.LOOP: (
        "asyncio", "uvloop", "_asynciomodule.c", "loop.c", "core.c", "linux.c", "stream.c", "loop-watcher.c", "queue.h",
        "timer.c", "heap-inl.h", "threading.py", "selectors.py", "concurrent",
    ),
}  # fmt: skip
"""What a frame's file begins with. The first that fits decides, so narrower ones stand before wider ones."""
# The files of a service that turn its values into statements and back.
_ROWS = re.compile(r"harkara_\w+/(?:\w*store|statements|tables|posting)\.py$")
# Those that say how its events are read.
_READING = re.compile(r"harkara_\w+/reading\.py$")
_FRAME = re.compile(r"(?P<name>.*) \((?P<file>[^()]*?)(?::\d+)?\)")


@lru_cache(maxsize=8192)
def layer_of_frame(frame: str) -> Layer | None:
    """None for a frame that could be anybody's."""
    parts = _FRAME.fullmatch(frame)
    if parts is None:
        return None
    if _ROWS.match(parts["file"]):
        return Layer.DATABASE
    if _READING.match(parts["file"]):
        return Layer.JSON
    return next((layer for layer, prefixes in _PREFIXES.items() if parts["file"].startswith(prefixes)), None)


def layer_of(stack: Sequence[str]) -> Layer:
    """`stack` from the outermost frame to the innermost."""
    innermost = _FRAME.fullmatch(stack[-1])
    if innermost and innermost["name"] in _SYSTEM_CALLS and innermost["file"].startswith(_SYSTEM_LIBRARIES):
        return Layer.SYSTEM
    if any(frame.partition(" (")[0] in _COLLECTORS for frame in stack):
        return Layer.COLLECTOR
    return next((layer for frame in reversed(stack) if (layer := layer_of_frame(frame))), Layer.OTHER)


@dataclass
class Profile:
    """Samples of one process: by layer, and by function with everything it calls."""

    samples: int = 0
    layers: Counter[Layer] = field(default_factory=Counter)
    functions: Counter[str] = field(default_factory=Counter)

    def share(self, layer: Layer) -> float:
        return self.layers[layer] / self.samples if self.samples else 0.0


def profile_of(lines: Iterable[str]) -> Profile:
    """Reads collapsed stacks: `frame;frame;frame count` a line. Threads that wait for work are left out."""
    profile = Profile()
    for line in lines:
        text, _, count_text = line.rstrip().rpartition(" ")
        if not text:
            continue
        count, stack = int(count_text), text.split(";")
        if any(frame.startswith(_WAITING) for frame in stack[-_INNERMOST:]):
            continue
        profile.samples += count
        profile.layers[layer_of(stack)] += count
        for function in {_function(frame) for frame in stack}:
            profile.functions[function] += count
    return profile


@lru_cache(maxsize=8192)
def _function(frame: str) -> str:
    """The frame without its line."""
    return re.sub(r":\d+\)$", ")", frame)
