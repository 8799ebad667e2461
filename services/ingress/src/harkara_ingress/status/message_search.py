"""The statement that finds a page of an account's messages.

It is made of what was asked for only, so that the planner sees which index leads there: what was not asked must not stand in
it as `$3 IS NULL OR …`.

Ranks change with every event and are in no index: that would cost each of those updates a second write. What is rare can be
found without: a failure by its time, a deferral by its end, which most never have.
"""

from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from harkara_ingress.status.read_model import AttemptState, MessageRow, MessageState

_FROM_ATTEMPTS = MessageState.SENT
"""Up to this state a message's attempts can show more than its own row does."""
_FAILURES = frozenset({MessageState.REJECTED, MessageState.CANCELLED, MessageState.EXPIRED, MessageState.FAILED})
_MESSAGE = ", ".join(f"m.{name}" for name in MessageRow._fields)

# The same reading of attempts as `read_model.message_state` and `cost_mp`, so that a page needs one statement.
SHOWN_BY_ATTEMPTS = f"""max(CASE WHEN a.rank >= {AttemptState.SENT.value} THEN {MessageState.SENT.value}
                    WHEN a.rank >= {AttemptState.FUNDED.value} THEN {MessageState.SENDING.value} ELSE 0 END)"""
_ATTEMPT_SUMMARY = f"""
    SELECT {SHOWN_BY_ATTEMPTS} AS shown,
        sum(CASE WHEN a.rank >= {AttemptState.UNKNOWN.value} THEN a.price_mp ELSE 0 END)::bigint AS cost_mp,
        (array_agg(a.units ORDER BY a.number DESC))[1] AS units
    FROM attempt a WHERE a.day = m.day AND a.message_id = m.message_id
"""  # noqa: S608  # numbers from this package only
_REACHED = "greatest(m.rank, coalesce(s.shown, 0))"


class Query(NamedTuple):
    """A page of an account's messages, newest first, accepted in [start, end); `before` is the last of the page before."""

    account_id: str
    start: datetime
    end: datetime | None
    state: MessageState | None = None
    deferred_reason: str | None = None
    channel: str | None = None
    category: str | None = None
    correlation_id: str | None = None
    batch_id: str | None = None
    error_code: str | None = None
    test_mode: bool | None = None
    before: tuple[datetime, str] | None = None
    limit: int = 50


class Listed(NamedTuple):
    """One message of a page: its row, and what its attempts add."""

    row: MessageRow
    state: MessageState
    cost_mp: int
    units: int | None

    @classmethod
    def of(cls, values: tuple[Any, ...]) -> "Listed":
        """Read what the statement returns."""
        width = len(MessageRow._fields)
        reached, cost_mp, units = values[width:]
        return cls(MessageRow(*values[:width]), MessageState(reached), cost_mp or 0, units)


class Conditions:
    """Conditions joined by AND, and the values that they name."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._conditions: list[str] = []

    def add(self, condition: str, *values: Any) -> None:
        """Add a condition; `{}` in it stands for the next value."""
        first = len(self.values) + 1
        self._conditions.append(condition.format(*(f"${first + place}" for place in range(len(values)))))
        self.values.extend(values)

    def text(self) -> str:
        return " AND ".join(self._conditions)


def page_statement(query: Query) -> tuple[str, list[Any]]:
    """Return the statement and its values."""
    conditions = Conditions()
    conditions.add("m.account_id = {}", query.account_id)
    accepted_in(conditions, query.start, query.end)
    if query.before is not None:
        conditions.add("(m.accepted_at, m.message_id) < ({}, {})", *query.before)
    for column in ("category", "correlation_id", "batch_id", "error_code", "test_mode", "deferred_reason"):
        if (wanted := getattr(query, column)) is not None:
            conditions.add(f"m.{column} = {{}}", wanted)
    if query.channel is not None:
        conditions.add("{} = ANY (string_to_array(m.channels, ','))", query.channel)
    if query.state is not None:
        _of_state(conditions, query.state)
    if query.error_code is not None or query.state in _FAILURES:
        conditions.add("m.failed_at IS NOT NULL")
    conditions.values.append(query.limit)
    text = f"""
        SELECT {_MESSAGE}, {_REACHED}, s.cost_mp, s.units
        FROM message m LEFT JOIN LATERAL ({_ATTEMPT_SUMMARY}) s ON true
        WHERE {conditions.text()}
        ORDER BY m.accepted_at DESC, m.message_id DESC
        LIMIT ${len(conditions.values)}
    """  # noqa: S608  # names and numbers of this package only; what clients give are values
    return text, conditions.values


def accepted_in(conditions: Conditions, start: datetime, end: datetime | None) -> None:
    """Ask for what was accepted in [start, end), in the partitions where that can be."""
    # An id is made just before its message is accepted, so at midnight its day may be the one before.
    first_day = start.astimezone(UTC).date() - timedelta(days=1)
    conditions.add("m.day >= {} AND m.accepted_at >= {}", first_day, start)
    if end is not None:
        conditions.add("m.day <= {} AND m.accepted_at < {}", end.astimezone(UTC).date(), end)


def _of_state(conditions: Conditions, state: MessageState) -> None:
    if state > _FROM_ATTEMPTS:
        conditions.add(f"m.rank = {state.value}")
        return
    # Most have ended: those are left out before anybody looks for their attempts.
    conditions.add(f"m.rank <= {state.value} AND {_REACHED} = {state.value}")
    if state is MessageState.DEFERRED:
        conditions.add("m.deferred_until IS NOT NULL")
