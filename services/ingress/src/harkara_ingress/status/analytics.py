"""How well messages arrive: counts by state, the rate, latencies and errors, of those accepted in a range.

One statement reads the range once, by the index on account and time, and folds it three ways; what comes back is as small
as the answer. The figures are of messages, not of attempts: one that a second carrier delivered is delivered.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict

from harkara_contracts.subjects import Channel
from harkara_dlt import IST
from harkara_ingress.status.message_search import SHOWN_BY_ATTEMPTS, Conditions, accepted_in
from harkara_ingress.status.read_model import MessageState

_PERCENTILES = (0.5, 0.95, 0.99)
_FINAL = MessageState.REJECTED
"""From here on a message's own row says all; before, its attempts may show more."""
_ARRIVED = frozenset({MessageState.DELIVERED, MessageState.READ})
_NOT_ARRIVED = frozenset({MessageState.FAILED, MessageState.EXPIRED})


class GroupBy(StrEnum):
    DAY = "day"
    HOUR = "hour"
    CHANNEL = "channel"


# Days and hours of India, which keeps one offset all year.
_BIN = "date_bin('1 {}', m.accepted_at, '2000-01-01 00:00+05:30')"
_CHANNEL = "coalesce(m.channel, split_part(m.channels, ',', 1))"
_GROUPS = {
    None: "NULL::text",
    GroupBy.DAY: _BIN.format("day"),
    GroupBy.HOUR: _BIN.format("hour"),
    GroupBy.CHANNEL: _CHANNEL,
}


class Range(NamedTuple):
    """An account's messages accepted in [start, end), tests or live ones."""

    account_id: str
    start: datetime
    end: datetime
    group_by: GroupBy | None
    channel: Channel | None
    test_mode: bool


_EXAMPLE_FIGURES: dict[str, Any] = {
    "messages": 1_200,
    "states": {state.name.lower(): 0 for state in MessageState} | {"delivered": 1_140, "failed": 48, "sent": 12},
    "delivery_rate": 0.9596,
    "latency_ms": {"p50": 2_100, "p95": 5_400, "p99": 9_800},
}
_EXAMPLE: dict[str, Any] = {
    **_EXAMPLE_FIGURES,
    "start": "2026-11-21T18:30:00Z",
    "end": "2026-11-22T18:30:00Z",
    "group_by": "day",
    "groups": [{"group": "2026-11-22", **_EXAMPLE_FIGURES}],
    "errors": [{"error_code": "ERR_HANDSET_UNREACHABLE", "channel": "sms", "messages": 48}],
}


class Latency(BaseModel):
    """Milliseconds to the handset: from the 202, or from when a schedule or the hours of promotion let it leave."""

    p50: int
    p95: int
    p99: int


class Figures(BaseModel):
    """Messages by state, and how they fared.

    `delivery_rate` is the share of delivered (and read) among those that arrived, failed or expired; what was refused, was
    cancelled or is still on its way is not counted. Null where none has ended.
    """

    messages: int
    states: dict[str, int]
    delivery_rate: float | None
    latency_ms: Latency | None


class GroupFigures(Figures):
    """`group` is a day (IST), the start of an hour (IST) in UTC, or a channel."""

    group: str


class ErrorCount(BaseModel):
    error_code: str
    channel: str | None
    messages: int


class DeliveryReport(Figures):
    """The figures of the whole range, those of each group, and why messages did not arrive, most frequent first."""

    model_config = ConfigDict(json_schema_extra={"example": _EXAMPLE})

    start: datetime
    end: datetime
    group_by: GroupBy | None
    groups: list[GroupFigures]
    errors: list[ErrorCount]


def statement(wanted: Range) -> tuple[str, list[Any]]:
    """Return the statement, whose rows `report` reads, and its values."""
    conditions = Conditions()
    conditions.add("m.account_id = {}", wanted.account_id)
    accepted_in(conditions, wanted.start, wanted.end)
    conditions.add("m.test_mode = {}", wanted.test_mode)
    if wanted.channel is not None:
        conditions.add(f"{_CHANNEL} = {{}}", wanted.channel)
    text = f"""
        WITH told AS MATERIALIZED (
            SELECT {_GROUPS[wanted.group_by]} AS part, greatest(m.rank, s.shown) AS state, {_CHANNEL} AS channel, m.error_code,
                CASE WHEN m.rank >= {MessageState.DELIVERED.value} THEN
                    greatest(0, extract(epoch FROM
                        m.delivered_at - greatest(m.accepted_at, m.send_at, m.deferred_until)) * 1000)::bigint
                END AS latency_ms
            FROM message m LEFT JOIN LATERAL (
                SELECT {SHOWN_BY_ATTEMPTS} AS shown FROM attempt a
                WHERE m.rank < {_FINAL.value} AND a.day = m.day AND a.message_id = m.message_id
            ) s ON true
            WHERE {conditions.text()}
        )
        SELECT part, state, NULL, NULL, count(*), NULL::bigint[] FROM told GROUP BY part, state
        UNION ALL
        SELECT part, NULL, NULL, NULL, grouping(part),
            percentile_disc(ARRAY{list(_PERCENTILES)}) WITHIN GROUP (ORDER BY latency_ms)
        FROM told WHERE latency_ms IS NOT NULL GROUP BY GROUPING SETS ((part), ())
        UNION ALL
        SELECT NULL, NULL, error_code, channel, count(*), NULL FROM told WHERE error_code IS NOT NULL
        GROUP BY error_code, channel
    """  # noqa: S608  # names and numbers of this package only; what clients give are values
    return text, conditions.values


def report(wanted: Range, rows: Iterable[Sequence[Any]]) -> DeliveryReport:
    """Make the answer of what the statement returned: (part, state, error_code, channel, count, latencies)."""
    counts: defaultdict[Any, dict[MessageState, int]] = defaultdict(dict)
    latencies: dict[Any, Latency] = {}
    overall: Latency | None = None
    errors: list[ErrorCount] = []
    for part, state, error_code, channel, count, percentiles in rows:
        if state is not None:
            counts[part][MessageState(state)] = count
        elif error_code is not None:
            errors.append(ErrorCount(error_code=error_code, channel=channel or None, messages=count))
        elif percentiles is not None:
            latency = Latency(**dict(zip(Latency.model_fields, percentiles, strict=True)))
            if count:  # the grouping's bit: of all parts together
                overall = latency
            else:
                latencies[part] = latency
    together: defaultdict[MessageState, int] = defaultdict(int)
    for states in counts.values():
        for state, count in states.items():
            together[state] += count
    groups = [
        GroupFigures(group=_name(wanted.group_by, part), **_figures(counts[part], latencies.get(part)))
        for part in (sorted(counts) if wanted.group_by else ())
    ]
    return DeliveryReport(
        start=wanted.start,
        end=wanted.end,
        group_by=wanted.group_by,
        groups=groups,
        errors=sorted(errors, key=lambda error: (-error.messages, error.error_code, error.channel or "")),
        **_figures(together, overall),
    )


def _figures(counts: dict[MessageState, int], latency: Latency | None) -> dict[str, Any]:
    arrived = sum(counts.get(state, 0) for state in _ARRIVED)
    ended = arrived + sum(counts.get(state, 0) for state in _NOT_ARRIVED)
    return {
        "messages": sum(counts.values()),
        "states": {state.name.lower(): counts.get(state, 0) for state in MessageState},
        "delivery_rate": round(arrived / ended, 4) if ended else None,
        "latency_ms": latency,
    }


def _name(group_by: GroupBy | None, part: Any) -> str:
    if group_by is GroupBy.CHANNEL:
        return str(part)
    if group_by is GroupBy.DAY:
        return str(part.astimezone(IST).date())
    return f"{part:%Y-%m-%dT%H:%M:%SZ}"
