"""One event to one endpoint, and what became of it.

A delivery is `pending` until an answer of 2xx makes it `delivered`, or until it has failed often enough to be kept as
`failed` for replay. A pending one always has a `next_attempt_at`: the time of the next try or, while a process has it in
hand, the end of that process's lease. So whatever dies, some sweep finds it due.

A delivery's id is made of the endpoint and the event: a repeat after a crash is the same delivery to us, and the same
`webhook-id` to the client.
"""

import hashlib
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Literal, NamedTuple

from harkara_contracts.subjects import Lane
from harkara_webhook_dispatcher.payload import TEST_EVENT
from harkara_webhook_dispatcher.retry import RetryPolicy

State = Literal["pending", "delivered", "failed"]

_ATTEMPTS_KEPT = 20
_DAYS_BACK = 2
_TAIL_LENGTH = 30


class Answer(NamedTuple):
    """What one POST brought: a status, or an error in plain words that a client may read."""

    at: datetime
    latency_ms: int
    status_code: int | None = None
    error: str | None = None
    response_head: str | None = None
    retry_after_s: float | None = None

    @property
    def is_success(self) -> bool:
        return self.error is None

    @property
    def is_gone(self) -> bool:
        """410: the client says that nothing shall ever come here again."""
        return self.status_code == 410  # noqa: PLR2004  # an HTTP status is its own name


@dataclass(slots=True)  # not frozen: that doubles the time to make one
class Attempt:
    """An answer as the log keeps it."""

    number: int
    at: datetime
    status_code: int | None
    error: str | None
    latency_ms: int | None
    response_head: str | None


@dataclass(slots=True)
class Delivery:
    """`tries` counts the failures of the current series; a replay begins a new one."""

    delivery_id: str
    day: date
    account_id: str
    webhook_id: str
    event: str
    message_id: str
    lane: Lane
    body: bytes = field(repr=False)
    created_at: datetime
    state: State = "pending"
    tries: int = 0
    attempts: list[Attempt] = field(default_factory=list)
    next_attempt_at: datetime | None = None

    def record(self, answer: Answer, policy: RetryPolicy) -> None:
        """Take an answer: log it and decide how it goes on."""
        self._log(
            Attempt(
                self._next_number(),
                answer.at,
                answer.status_code,
                answer.error,
                answer.latency_ms,
                answer.response_head,
            )
        )
        if answer.is_success:
            self.state, self.next_attempt_at = "delivered", None
            return
        self.tries += 1
        finished_at = answer.at + timedelta(milliseconds=answer.latency_ms)
        self.next_attempt_at = policy.next_attempt_at(self.tries, answer.retry_after_s, finished_at)
        # A person is waiting for a test's answer; nobody wants it two hours later.
        if self.next_attempt_at is None or answer.is_gone or self.event == TEST_EVENT:
            self.state, self.next_attempt_at = "failed", None

    def give_up(self, reason: str, now: datetime) -> None:
        """Keep it for replay without another try."""
        self._log(Attempt(self._next_number(), now, None, reason, None, None))
        self.state, self.next_attempt_at = "failed", None

    def _next_number(self) -> int:
        return self.attempts[-1].number + 1 if self.attempts else 1

    def _log(self, attempt: Attempt) -> None:
        self.attempts = [*self.attempts[1 - _ATTEMPTS_KEPT :], attempt]


def partition_day(occurred_at: datetime, today: date) -> date:
    """Return the day whose partition keeps a delivery: the event's, or the oldest that surely exists."""
    day = occurred_at.date()
    return day if day == today else max(day, today - timedelta(days=_DAYS_BACK))


def delivery_id_of(webhook_id: str, event_id: str, day: date) -> str:
    """Return the one id of an event at an endpoint. It carries its day, so that its partition is told by the id."""
    digest = hashlib.sha256(f"{webhook_id} {event_id}".encode()).hexdigest()
    return f"DL{_digits(day)}{digest[:_TAIL_LENGTH]}"


@lru_cache(maxsize=16)
def _digits(day: date) -> str:
    return f"{day:%Y%m%d}"


def day_of_delivery(delivery_id: str) -> date:
    """Return the day in a delivery's id.

    Raises:
        ValueError: the text is no delivery id.
    """
    digits = delivery_id[2:10]
    if not delivery_id.startswith("DL") or not digits.isdecimal() or not delivery_id.isascii():
        raise ValueError("a delivery id starts with DL and eight digits of its day")
    return date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))
