"""Requests written and not yet answered, matched by sequence number only.

A dict keeps them in the order of writing, so looking for time-outs stops at the first that is young enough. A request
that timed out is remembered for a while longer: its response may still come and is worth knowing.
"""

from typing import Generic, TypeVar

ItemT = TypeVar("ItemT")


class Window(Generic[ItemT]):
    """At most `limit` unanswered requests, each given `timeout_s`; at most `late_limit` remembered after that."""

    __slots__ = ("_late", "_late_limit", "_limit", "_timeout_s", "_waiting")

    def __init__(self, limit: int, timeout_s: float, late_limit: int = 10_000) -> None:
        self._limit = limit
        self._timeout_s = timeout_s
        self._late_limit = late_limit
        self._waiting: dict[int, tuple[ItemT, float]] = {}
        self._late: dict[int, ItemT] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def free(self) -> int:
        return self._limit - len(self._waiting)

    def written(self, sequence_number: int, item: ItemT, now: float) -> None:
        self._waiting[sequence_number] = (item, now)

    def answered(self, sequence_number: int) -> tuple[ItemT, bool] | None:
        """The request of a response and whether it is late; None where nothing waits for that response."""
        entry = self._waiting.pop(sequence_number, None)
        if entry is not None:
            return entry[0], False
        if sequence_number in self._late:
            return self._late.pop(sequence_number), True
        return None

    def expire(self, now: float) -> list[ItemT]:
        """The requests whose time is over; a later response to them is late."""
        expired: list[ItemT] = []
        written_before = now - self._timeout_s
        while self._waiting:
            sequence_number = next(iter(self._waiting))
            item, written_at = self._waiting[sequence_number]
            if written_at > written_before:
                break
            del self._waiting[sequence_number]
            self._late[sequence_number] = item
            expired.append(item)
        while len(self._late) > self._late_limit:
            del self._late[next(iter(self._late))]
        return expired

    def clear(self) -> list[ItemT]:
        """End of the session, and of its sequence numbers: the requests that had no response."""
        items = [item for item, _ in self._waiting.values()]
        self._waiting.clear()
        self._late.clear()
        return items
