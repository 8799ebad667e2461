"""The states of a sender or template on its way through approval."""

from enum import StrEnum


class Status(StrEnum):
    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"
    SUSPENDED = "suspended"

    def may_become(self, target: "Status") -> bool:
        """Whether an operator may move this state to `target`; the same state again is no move."""
        return target in _MOVES[self]


_MOVES: dict[Status, frozenset[Status]] = {
    Status.PENDING: frozenset({Status.APPROVED, Status.REJECTED, Status.SUSPENDED}),
    Status.APPROVED: frozenset({Status.SUSPENDED}),
    Status.REJECTED: frozenset({Status.APPROVED}),
    Status.SUSPENDED: frozenset({Status.APPROVED}),
}
