"""The sink of a comparison: the bench's own, which takes any peer's callbacks and counts the final ones by number."""

import time
from dataclasses import dataclass, field

from bench.peers.peer import FinalReceipt
from bench.sink import Sink
from bench.worker import Requests

_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 10\r\n\r\nACK/Jasmin"
"""Jasmin calls again until it reads this; the others look at the status only."""
_MAX_KEPT = 1_000_000


@dataclass(frozen=True)
class Callbacks:
    """`first` is the time, in monotonic seconds, of the first final callback for each number; `others` are not final."""

    first: dict[int, float]
    repeated: int
    others: int
    malformed: int


@dataclass
class CallbackSink(Sink):
    """What came since the last `take`. A callback is read when progress is asked for, not when it comes."""

    answer: bytes = _ANSWER
    final_receipt: FinalReceipt = lambda _head, _body: 0
    _unread: list[tuple[float, bytes, bytes]] = field(default_factory=list)
    _first: dict[int, float] = field(default_factory=dict)
    _repeated: int = 0
    _others: int = 0

    def received(self, head: bytes, body: bytes) -> bool:
        if len(self._unread) >= _MAX_KEPT:
            return False
        self._unread.append((time.monotonic(), head, body))
        return True

    def final(self) -> int:
        """How many numbers have their final callback."""
        unread, self._unread = self._unread, []
        for at, head, body in unread:
            try:
                number = self.final_receipt(head, body)
            except (ValueError, KeyError, IndexError, TypeError):
                self.malformed += 1
                continue
            if not number:
                self._others += 1
            elif number in self._first:
                self._repeated += 1
            else:
                self._first[number] = at
        return len(self._first)

    def take(self) -> Callbacks:
        self.final()
        taken = Callbacks(self._first, self._repeated, self._others, self.malformed)
        self._first, self._repeated, self._others, self.malformed = {}, 0, 0, 0
        return taken


async def serve(requests: Requests) -> None:
    """The sink's process: its first answer is its port. `read` takes a FinalReceipt, `final` and `take` are the sink's."""
    sink = CallbackSink()
    server = await sink.start()
    requests.answer(sink.port)
    try:
        while True:
            name, argument = await requests.next()
            if name == "read":
                sink.final_receipt = argument
                requests.answer(None)
            else:
                requests.answer(sink.take() if name == "take" else sink.final())
    finally:
        server.close()
