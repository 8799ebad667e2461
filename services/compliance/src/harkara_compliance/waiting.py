"""The tables of what waits: one row for each message that was deferred, which says whether it still waits.

A row is where leaving and cancelling meet: each is one statement that moves it on from `waiting` only, so one of the two
comes first, whoever asks and however often. Messages that leave at once never come here, and pay nothing for it. (Should
the process end just then, and the hours for promotions with it, their copies do come here: they wait, can be cancelled,
and if not are passed on once more, to no effect.)

A batch is cancelled by a row of its own and then row by row, while more of its messages may just be deferred. Who defers
looks for that row after its own were committed, who cancels looks for rows after its own was: so no message is missed by
both. Each cancellation is told by an event afterwards; what is not known to be told is told again.
"""

import json
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

import asyncpg

from harkara_chassis.database import Database
from harkara_chassis.sealing import Sealer
from harkara_compliance.verdict import Deferral, Standing, State
from harkara_contracts.events import BatchCancelled, MessageAccepted, MessageCancelled

KEEP_LEFT = timedelta(days=3)
"""So long it is told of a message that it has left, and not only that none waits under its id."""

KEEP_CANCELLED = timedelta(days=30)
"""So long after its time a timer may still come due, after the worst of outages, and must find that it lets nobody go."""

_AT_ONCE = 2_000
"""Rows of one statement where their number has no other bound."""

_DEFER = """
INSERT INTO waiting AS w (message_id, account_id, batch_id, until, state, detail)
SELECT m, a, b, u, 'waiting', d FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[], $5::bytea[])
    AS told (m, a, b, u, d)
ON CONFLICT (message_id) DO UPDATE SET
    until = CASE WHEN w.state = 'waiting' AND w.until <= $6::timestamptz THEN excluded.until ELSE w.until END
RETURNING w.message_id, w.state, w.until
"""

# The row as it is when the statement comes to it is what counts, and is told: hence no condition but the key.
_LEAVE = """
UPDATE waiting SET
    state = CASE WHEN state = 'waiting' AND until <= $2::timestamptz THEN 'left' ELSE state END,
    closed_at = CASE WHEN state = 'waiting' AND until <= $2::timestamptz THEN $3::timestamptz ELSE closed_at END
WHERE message_id = ANY ($1::text[])
RETURNING message_id, state, until
"""

_TOLD_COLUMNS = "message_id, account_id, batch_id, state, detail, closed_at, cancelled_by, told"

_CANCEL = f"""
UPDATE waiting SET
    state = CASE WHEN state = 'waiting' THEN 'cancelled' ELSE state END,
    closed_at = CASE WHEN state = 'waiting' THEN $4::timestamptz ELSE closed_at END,
    cancelled_by = CASE WHEN state = 'waiting' THEN $3 ELSE cancelled_by END
WHERE message_id = $1 AND account_id = $2
RETURNING {_TOLD_COLUMNS}
"""  # noqa: S608  # names of this module's own

_CANCEL_BATCH = """
INSERT INTO cancelled_batch (batch_id, account_id, cancelled_by, cancelled_at) VALUES ($1, $2, $3, $4)
ON CONFLICT (batch_id) DO NOTHING
"""

_CANCEL_OF_BATCH = """
UPDATE waiting w SET state = 'cancelled', closed_at = b.cancelled_at, cancelled_by = b.cancelled_by
FROM cancelled_batch b
WHERE b.batch_id = $1 AND w.state = 'waiting' AND w.message_id = ANY (ARRAY(
    SELECT message_id FROM waiting
    WHERE batch_id = $1 AND account_id = b.account_id AND state = 'waiting' LIMIT $2
))
"""

_UNTOLD = f"""
SELECT {_TOLD_COLUMNS} FROM waiting
WHERE state = 'cancelled' AND NOT told AND ($1::text IS NULL OR batch_id = $1)
    AND ($2::timestamptz IS NULL OR closed_at < $2)
LIMIT $3
"""  # noqa: S608  # names of this module's own

_FORGET = """
DELETE FROM waiting WHERE message_id = ANY (ARRAY(
    SELECT message_id FROM waiting
    WHERE closed_at < $1 AND (state = 'left' OR (told AND closed_at < $2 AND until < $2)) LIMIT $3
))
"""


class Waiting:
    """What waits, in the tables `waiting` and `cancelled_batch`."""

    def __init__(self, database: Database, sealer: Sealer) -> None:
        self._database = database
        self._sealer = sealer

    async def defer(self, deferrals: Iterable[Deferral], due_at: datetime | None) -> dict[str, Standing]:
        """Write that messages wait; return how each stands then, by its id.

        Args:
            deferrals: what was decided.
            due_at: of the timer they waited for so far, which only they may be deferred again by; None at the first time.
        """
        by_id = {deferral.event.message_id: deferral for deferral in deferrals}
        # In one order by all writers: two that share rows wait for each other, and never both.
        rows = [by_id[message_id] for message_id in sorted(by_id)]
        records = await self._database.fetch(
            _DEFER,
            [row.event.message_id for row in rows],
            [row.event.account_id for row in rows],
            [row.event.batch_id for row in rows],
            [row.until for row in rows],
            [self._detail(row.event) for row in rows],
            due_at,
        )
        return _standings(records)

    async def leave(self, message_ids: Iterable[str], due_at: datetime | None, now: datetime) -> dict[str, Standing]:
        """Write that messages leave by the timer of this time; return how those that ever waited stand then, by their ids.

        Without a timer nothing changes.
        """
        return _standings(await self._database.fetch(_LEAVE, sorted(set(message_ids)), due_at, now))

    async def cancel(
        self, account_id: str, message_id: str, cancelled_by: str, now: datetime
    ) -> tuple[State, MessageCancelled | None] | None:
        """Cancel a message that waits; return how it stands then, with what is not yet told of it.

        None: no message of the account waits under this id, or has for a while.
        """
        record = await self._database.fetchrow(_CANCEL, message_id, account_id, cancelled_by, now)
        if record is None:
            return None
        state = State(record["state"])
        return state, self._event(record) if state is State.CANCELLED and not record["told"] else None

    async def cancel_batch(self, batch: BatchCancelled) -> None:
        """Cancel what waits of a batch, and have all of it cancelled that comes to wait later."""
        await self._database.execute(
            _CANCEL_BATCH, batch.batch_id, batch.account_id, batch.cancelled_by, batch.cancelled_at
        )
        await self.cancel_rest_of(batch.batch_id)

    async def cancel_rest_of(self, batch_id: str) -> None:
        """Cancel what waits of a batch that was cancelled before."""
        # Until none is found: some of those that were found may just have left.
        while await self._database.execute(_CANCEL_OF_BATCH, batch_id, _AT_ONCE) != "UPDATE 0":
            pass

    async def cancelled_among(self, batch_ids: Iterable[str]) -> set[str]:
        """Return which of these batches were cancelled."""
        query = "SELECT batch_id FROM cancelled_batch WHERE batch_id = ANY ($1::text[])"
        return {record["batch_id"] for record in await self._database.fetch(query, sorted(batch_ids))}

    async def untold(self, batch_id: str | None = None, before: datetime | None = None) -> list[MessageCancelled]:
        """Return cancellations that may not have been published, some at a time: of one batch, or from before a time."""
        return [self._event(record) for record in await self._database.fetch(_UNTOLD, batch_id, before, _AT_ONCE)]

    async def told(self, events: Sequence[MessageCancelled]) -> None:
        """Write that cancellations are published."""
        await self._database.execute(
            "UPDATE waiting SET told = true WHERE message_id = ANY ($1::text[])",
            sorted(event.message_id for event in events),
        )

    async def overdue(self, before: datetime) -> int:
        """Count what still waits although its time came before this one."""
        record = await self._database.fetchrow(
            "SELECT count(*) FROM waiting WHERE state = 'waiting' AND until < $1", before
        )
        return record["count"] if record else 0

    async def forget(self, now: datetime) -> int:
        """Delete what nobody will ask for any more; return how much."""
        count = 0
        while True:
            done = await self._database.execute(_FORGET, now - KEEP_LEFT, now - KEEP_CANCELLED, _AT_ONCE)
            deleted = int(done.split()[-1])
            count += deleted
            if deleted < _AT_ONCE:
                break
        await self._database.execute("DELETE FROM cancelled_batch WHERE cancelled_at < $1", now - KEEP_CANCELLED)
        return count

    def _detail(self, event: MessageAccepted) -> bytes:
        clear = {
            "to": event.to,
            "sender": event.content.sender,
            "lane": event.lane.value,
            "test_mode": event.test_mode,
            "correlation_id": event.correlation_id,
        }
        return self._sealer.seal(json.dumps(clear).encode())

    def _event(self, record: asyncpg.Record) -> MessageCancelled:
        detail: dict[str, Any] = json.loads(self._sealer.open(record["detail"]))
        return MessageCancelled(
            message_id=record["message_id"],
            account_id=record["account_id"],
            batch_id=record["batch_id"],
            occurred_at=record["closed_at"],
            cancelled_by=record["cancelled_by"],
            **detail,
        )


def _standings(records: Iterable[asyncpg.Record]) -> dict[str, Standing]:
    return {record["message_id"]: Standing(State(record["state"]), record["until"]) for record in records}
