"""The messages that arrived, the last N of them, as the octets they came in.

A ring of arrays: adding one costs under a microsecond and no object but the octets themselves. Text, addresses and
TLVs are decoded when somebody looks.
"""

import time
from array import array
from collections.abc import Iterator

_NO_RECEIPT = 0


class Store:
    """Messages have numbers that count up without a gap; those up to `capacity` before the newest are kept."""

    def __init__(self, capacity: int, first_number: int) -> None:
        if capacity < 1:
            raise ValueError("capacity must be positive")
        self._capacity = capacity
        self._first = first_number
        self.next_number = first_number
        self._bodies: list[bytes] = []
        self._system_ids: list[str] = []
        self._times = array("d")
        self._states = array("B")
        self._digests = array("q")
        self._seen: dict[int, int] = {}
        self.duplicates = 0

    def add(self, body: bytes, system_id: str, received_monotonic: float, digest: int) -> int:
        """Keep a submit_sm's body; `digest` tells messages of the same text to the same number. Gives its number."""
        number = self.next_number
        self.next_number = number + 1
        slot = (number - self._first) % self._capacity
        if number - self._first < self._capacity:
            self._bodies.append(body)
            self._system_ids.append(system_id)
            self._times.append(received_monotonic)
            self._states.append(_NO_RECEIPT)
            self._digests.append(digest)
        else:
            self._forget(self._digests[slot])
            self._bodies[slot] = body
            self._system_ids[slot] = system_id
            self._times[slot] = received_monotonic
            self._states[slot] = _NO_RECEIPT
            self._digests[slot] = digest
        seen = self._seen.get(digest, 0)
        if seen:
            self.duplicates += 1
        self._seen[digest] = seen + 1
        return number

    def _forget(self, digest: int) -> None:
        left = self._seen[digest] - 1
        if left:
            self._seen[digest] = left
        else:
            del self._seen[digest]

    def __len__(self) -> int:
        return len(self._bodies)

    def __contains__(self, number: int) -> bool:
        return self.next_number - len(self._bodies) <= number < self.next_number

    def numbers(self) -> range:
        """The numbers kept, oldest first."""
        return range(self.next_number - len(self._bodies), self.next_number)

    def body(self, number: int) -> bytes:
        return self._bodies[(number - self._first) % self._capacity]

    def system_id(self, number: int) -> str:
        return self._system_ids[(number - self._first) % self._capacity]

    def received_monotonic(self, number: int) -> float:
        """CLOCK_MONOTONIC seconds, comparable between processes of one machine."""
        return self._times[(number - self._first) % self._capacity]

    def receipt_state(self, number: int) -> int:
        """The state of the receipt sent, 0 while there was none."""
        return self._states[(number - self._first) % self._capacity]

    def set_receipt_state(self, number: int, state: int) -> None:
        if number in self:
            self._states[(number - self._first) % self._capacity] = state

    def with_octets(self, needle: bytes) -> Iterator[int]:
        """The numbers of the messages whose body has `needle` in it, oldest first: a quick sieve, not an answer."""
        for number in self.numbers():
            if needle in self.body(number):
                yield number

    def clear(self) -> None:
        """Forget every message; numbers go on."""
        self._first = self.next_number
        self._bodies.clear()
        self._system_ids.clear()
        for values in (self._times, self._states, self._digests):
            del values[:]
        self._seen.clear()
        self.duplicates = 0


def first_number() -> int:
    """Where to begin: above every number that an earlier run of the simulator can have given out."""
    return int(time.time() * 1000) << 10
