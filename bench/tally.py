"""Counting by number in bounded memory: how often each message was seen, at one byte a message.

A run of a million messages cannot keep every request until its end. What is asked of it, whether one was lost or came twice,
needs no more than a count for each number; so a webhook is parsed and counted as it comes, and one in a few is verified.
"""

from dataclasses import dataclass, field

import orjson

from bench.sink import Sink, is_signed
from bench.worker import Requests

VERIFY_EVERY = 8
"""Checking both signatures costs more than all the rest of the sink."""
_MOST = 255


class Tally:
    """How often each of `count` numbers from `first` on was seen."""

    def __init__(self, first: int, count: int) -> None:
        self.times = bytearray(count)
        self.unique = 0
        self.again = 0
        self.strangers = 0
        self._first = first

    def add(self, number: int) -> None:
        index = number - self._first
        if not 0 <= index < len(self.times):
            self.strangers += 1
        elif times := self.times[index]:
            self.again += 1
            self.times[index] = min(times + 1, _MOST)
        else:
            self.unique += 1
            self.times[index] = 1

    def lacks(self, other: "Tally") -> int:
        """How many that were seen there were not seen here."""
        return sum(1 for here, there in zip(self.times, other.times, strict=True) if there and not here)


@dataclass(frozen=True)
class Wanted:
    """The messages whose webhooks are counted, and the secret that signs them."""

    first_number: int
    count: int
    secret: str = field(repr=False)
    event: str = "message.delivered"


@dataclass(frozen=True)
class Callbacks:
    """What came: by number, `others` with another event than the wanted one, and of those verified the wrongly signed."""

    tally: Tally
    others: int
    verified: int
    bad_signatures: int
    malformed: int


class CountingSink(Sink):
    """A sink that keeps counts instead of requests. Until it knows what is wanted, everything is a stranger."""

    def expect(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._tally = Tally(wanted.first_number, wanted.count)
        self._came = self._others = self._verified = self._bad = 0

    def received(self, head: bytes, body: bytes) -> bool:
        """Counts one; there is always room."""
        self._came += 1
        try:
            event = orjson.loads(body)
            is_wanted, number = event["event"] == self._wanted.event, int(event["to"])
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
            self.malformed += 1
            return True
        if is_wanted:
            self._tally.add(number)
        else:
            self._others += 1
        if self._came % VERIFY_EVERY == 0:
            self._verified += 1
            self._bad += not is_signed(head, body, self._wanted.secret)
        return True

    def progress(self) -> int:
        """How many different messages were called back."""
        return self._tally.unique + self._others

    def callbacks(self) -> Callbacks:
        return Callbacks(self._tally, self._others, self._verified, self._bad, self.malformed)


async def serve(requests: Requests) -> None:
    """The sink's process: its first answer is its port; `expect` with Wanted, `progress` and `callbacks` are its words."""
    sink = CountingSink()
    sink.expect(Wanted(0, 0, ""))
    server = await sink.start()
    requests.answer(sink.port)
    try:
        while True:
            name, argument = await requests.next()
            if name == "expect":
                sink.expect(argument)
                requests.answer(None)
            else:
                requests.answer(sink.progress() if name == "progress" else sink.callbacks())
    finally:
        server.close()
