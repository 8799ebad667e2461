"""Endpoints and deliveries in Postgres.

Secrets, bodies and the log of answers (which may repeat a body) are sealed. A batch of deliveries is one statement.
The `day` of a delivery is in its id, so each statement touches its partitions only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import asyncpg
import orjson
from yarl import URL

from harkara_chassis.database import Database
from harkara_chassis.sealing import Sealer
from harkara_contracts.ids import new_id
from harkara_contracts.subjects import Lane
from harkara_webhook_dispatcher.delivery import Attempt, Delivery, day_of_delivery
from harkara_webhook_dispatcher.endpoint import Endpoint
from harkara_webhook_dispatcher.signature import SigningKey, new_secret


@dataclass(frozen=True, slots=True)
class StoredEndpoint:
    """An endpoint with the newest secret as it is displayed."""

    endpoint: Endpoint
    secret: str = field(repr=False)
    rotated_by: str | None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page of deliveries begins: behind this row."""

    created_at: datetime
    delivery_id: str


_ENDPOINT = """webhook_id, account_id, url, events, description, status, reason, secret, previous_secret,
    overlap_ends_at, failing_since, rotated_by, created_at"""
_DELIVERY = """d.day, d.delivery_id, d.account_id, d.webhook_id, d.event, d.message_id, d.lane, d.state, d.tries,
    d.body, d.attempts, d.next_attempt_at, d.created_at"""

_CREATE = f"""
INSERT INTO endpoint (webhook_id, account_id, url, events, description, status, secret, created_by, created_at)
VALUES ($1, $2, $3, $4, $5, 'active', $6, $7, $8)
RETURNING {_ENDPOINT}
"""  # noqa: S608  # the parts are constants of this module

_UPDATE = f"""
UPDATE endpoint SET
    url = coalesce($3, url),
    events = coalesce($4, events),
    description = coalesce($5, description),
    status = coalesce($6, status),
    reason = CASE WHEN $6 IS NULL THEN reason END,
    failing_since = CASE WHEN $6 IS NULL THEN failing_since END
WHERE webhook_id = $1 AND account_id = $2
RETURNING {_ENDPOINT}
"""  # noqa: S608  # as above

_ROTATE = f"""
UPDATE endpoint SET
    previous_secret = CASE WHEN $5::timestamptz IS NULL THEN NULL ELSE secret END,
    secret = $3, rotated_by = $4, overlap_ends_at = $5
WHERE webhook_id = $1 AND account_id = $2 AND rotated_by IS DISTINCT FROM $4
RETURNING {_ENDPOINT}
"""  # noqa: S608  # as above

_DISABLE = f"""
UPDATE endpoint SET status = 'disabled', reason = $2
WHERE webhook_id = $1 AND status = 'active' AND NOT EXISTS (
    SELECT 1 FROM delivery d WHERE d.webhook_id = $1 AND d.state = 'delivered' AND d.created_at > $3
)
RETURNING {_ENDPOINT}
"""  # noqa: S608  # as above

_CLOSE_PENDING = """
UPDATE delivery SET state = 'failed', next_attempt_at = NULL
WHERE webhook_id = $1 AND account_id = $2 AND state = 'pending'
"""

# What a repeat brings changes nothing, unless it brings the success that an earlier life did not live to write.
_INSERT = """
INSERT INTO delivery AS d (day, delivery_id, account_id, webhook_id, event, message_id, lane, state, tries, body,
    attempts, next_attempt_at, created_at)
SELECT * FROM unnest($1::date[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
    $9::smallint[], $10::bytea[], $11::bytea[], $12::timestamptz[], $13::timestamptz[])
ON CONFLICT (day, delivery_id) DO UPDATE
    SET state = excluded.state, attempts = excluded.attempts, next_attempt_at = NULL
    WHERE d.state <> 'delivered' AND excluded.state = 'delivered'
"""

# The ids are given twice: with the join alone, a plan made while the day is young reads all of its rows, and stays.
_SETTLE = """
UPDATE delivery AS d SET state = r.state, tries = r.tries, attempts = r.attempts, next_attempt_at = r.next_attempt_at
FROM unnest($1::date[], $2::text[], $3::text[], $4::smallint[], $5::bytea[], $6::timestamptz[])
    AS r (day, delivery_id, state, tries, attempts, next_attempt_at)
WHERE d.day = ANY ($1::date[]) AND d.delivery_id = ANY ($2::text[]) AND d.day = r.day AND d.delivery_id = r.delivery_id
    AND (d.state = 'pending' OR r.state = 'delivered')
"""

# Which endpoints have pending rows is found by hopping through the partial index (a loose index scan), so a long queue
# of one endpoint costs the others nothing. SKIP LOCKED lets several instances sweep at once, each its own rows.
_CLAIM = f"""
WITH RECURSIVE waiting (webhook_id) AS (
    (SELECT webhook_id FROM delivery WHERE state = 'pending' ORDER BY webhook_id LIMIT 1)
    UNION ALL
    SELECT (SELECT n.webhook_id FROM delivery n WHERE n.state = 'pending' AND n.webhook_id > w.webhook_id
            ORDER BY n.webhook_id LIMIT 1)
    FROM waiting w WHERE w.webhook_id IS NOT NULL
),
due AS MATERIALIZED (
    SELECT one.day, one.delivery_id
    FROM waiting w
    LEFT JOIN unnest($3::text[], $4::int[]) AS room (webhook_id, size) ON room.webhook_id = w.webhook_id
    CROSS JOIN LATERAL (
        SELECT p.day, p.delivery_id FROM delivery p
        WHERE p.webhook_id = w.webhook_id AND p.state = 'pending' AND p.next_attempt_at <= $1
        ORDER BY p.next_attempt_at LIMIT coalesce(room.size, $5)
        FOR UPDATE SKIP LOCKED
    ) one
    WHERE w.webhook_id IS NOT NULL
)
UPDATE delivery AS d SET next_attempt_at = $2
FROM due WHERE d.day = due.day AND d.delivery_id = due.delivery_id
RETURNING {_DELIVERY}
"""  # noqa: S608  # as above

_BEGIN_AGAIN = f"""
UPDATE delivery AS d SET state = 'pending', tries = 0, next_attempt_at = $4
WHERE d.day = $1 AND d.delivery_id = $2 AND d.account_id = $3 AND d.state <> 'pending'
RETURNING {_DELIVERY}
"""  # noqa: S608  # as above

_PAGE = f"""
SELECT {_DELIVERY} FROM delivery AS d
WHERE d.webhook_id = $1 AND d.account_id = $2 AND ($3::text IS NULL OR d.message_id = $3)
    AND ($4::timestamptz IS NULL OR (d.created_at, d.delivery_id) < ($4, $5))
ORDER BY d.created_at DESC, d.delivery_id DESC LIMIT $6
"""  # noqa: S608  # as above


class Store:
    def __init__(self, database: Database, sealer: Sealer) -> None:
        self._database = database
        self._sealer = sealer

    # --- endpoints -----------------------------------------------------------------------------------------------------

    async def endpoints(self, webhook_ids: Sequence[str] | None) -> list[Endpoint]:
        """Return these endpoints as far as they exist, or all for None."""
        rows = await self._database.fetch(
            f"SELECT {_ENDPOINT} FROM endpoint WHERE $1::text[] IS NULL OR webhook_id = ANY ($1)",  # noqa: S608  # a constant
            webhook_ids,
        )
        return [self._endpoint(row).endpoint for row in rows]

    async def endpoints_of(self, account_id: str) -> list[Endpoint]:
        rows = await self._database.fetch(
            f"SELECT {_ENDPOINT} FROM endpoint WHERE account_id = $1 ORDER BY created_at, webhook_id",  # noqa: S608  # a constant
            account_id,
        )
        return [self._endpoint(row).endpoint for row in rows]

    async def endpoint(self, account_id: str, webhook_id: str) -> StoredEndpoint | None:
        row = await self._database.fetchrow(
            f"SELECT {_ENDPOINT} FROM endpoint WHERE webhook_id = $1 AND account_id = $2",  # noqa: S608  # a constant
            webhook_id,
            account_id,
        )
        return None if row is None else self._endpoint(row)

    async def create(
        self, account_id: str, url: str, events: list[str], description: str, command_id: str, limit: int
    ) -> StoredEndpoint | None:
        """Make an endpoint, or return the one that the same command made; None if the account has `limit` already."""
        async with self._database.transaction() as connection:
            # One creation of an account at a time, so that the limit holds and a repeat finds the first.
            await connection.execute("SELECT pg_advisory_xact_lock(hashtext('endpoint ' || $1))", account_id)
            known = await connection.fetchrow(
                f"SELECT {_ENDPOINT} FROM endpoint WHERE created_by = $1 AND account_id = $2",  # noqa: S608  # a constant
                command_id,
                account_id,
            )
            if known is not None:
                return self._endpoint(known)
            if await connection.fetchval("SELECT count(*) FROM endpoint WHERE account_id = $1", account_id) >= limit:
                return None
            secret = self._sealer.seal(new_secret().encode())
            now = datetime.now(UTC)
            row = await connection.fetchrow(
                _CREATE, new_id("WH"), account_id, url, events, description, secret, command_id, now
            )
        return None if row is None else self._endpoint(row)

    async def update(
        self,
        account_id: str,
        webhook_id: str,
        *,
        url: str | None,
        events: list[str] | None,
        description: str | None,
        status: str | None,
    ) -> StoredEndpoint | None:
        """Change what is not None; a status also clears what was noted of failures. None if there is no such endpoint."""
        row = await self._database.fetchrow(_UPDATE, webhook_id, account_id, url, events, description, status)
        return None if row is None else self._endpoint(row)

    async def rotate(
        self, account_id: str, webhook_id: str, command_id: str, overlap_ends_at: datetime | None
    ) -> StoredEndpoint | None:
        """Put a new secret in place once for a command; the old one stays beside it until the overlap ends."""
        secret = self._sealer.seal(new_secret().encode())
        row = await self._database.fetchrow(_ROTATE, webhook_id, account_id, secret, command_id, overlap_ends_at)
        return await self.endpoint(account_id, webhook_id) if row is None else self._endpoint(row)

    async def delete(self, account_id: str, webhook_id: str) -> None:
        async with self._database.transaction() as connection:
            await connection.execute(
                "DELETE FROM endpoint WHERE webhook_id = $1 AND account_id = $2", webhook_id, account_id
            )
            await connection.execute(_CLOSE_PENDING, webhook_id, account_id)

    async def note_health(self, webhook_id: str, failing_since: datetime | None) -> None:
        """Note since when an endpoint only fails; an earlier time that is noted stays. None: it does not."""
        await self._database.execute(
            "UPDATE endpoint SET failing_since = CASE WHEN $2::timestamptz IS NULL THEN NULL"
            " ELSE least(failing_since, $2) END WHERE webhook_id = $1 AND status = 'active'",
            webhook_id,
            failing_since,
        )

    async def disable(self, webhook_id: str, reason: str, unless_delivered_since: datetime | None) -> Endpoint | None:
        """Switch an endpoint off and keep its pending deliveries for replay.

        Returns None, and does nothing, if it is off already or another instance delivered to it since the given time.
        """
        async with self._database.transaction() as connection:
            row = await connection.fetchrow(_DISABLE, webhook_id, reason, unless_delivered_since)
            if row is None:
                return None
            await connection.execute(_CLOSE_PENDING, webhook_id, row["account_id"])
        return self._endpoint(row).endpoint

    # --- deliveries ----------------------------------------------------------------------------------------------------

    async def insert(self, deliveries: Sequence[Delivery]) -> None:
        """Write new deliveries as they are when this is called; what came earlier stays, but for a late success."""
        columns = (
            [one.day for one in deliveries],
            [one.delivery_id for one in deliveries],
            [one.account_id for one in deliveries],
            [one.webhook_id for one in deliveries],
            [one.event for one in deliveries],
            [one.message_id for one in deliveries],
            [one.lane.value for one in deliveries],
            [one.state for one in deliveries],
            [one.tries for one in deliveries],
            [self._sealer.seal(one.body) for one in deliveries],
            [self._sealed_log(one) for one in deliveries],
            [one.next_attempt_at for one in deliveries],
            [one.created_at for one in deliveries],
        )
        await self._database.execute(_INSERT, *columns)

    async def settle(self, deliveries: Sequence[Delivery]) -> None:
        """Write what became of deliveries that are stored."""
        await self._database.execute(
            _SETTLE,
            [one.day for one in deliveries],
            [one.delivery_id for one in deliveries],
            [one.state for one in deliveries],
            [one.tries for one in deliveries],
            [self._sealed_log(one) for one in deliveries],
            [one.next_attempt_at for one in deliveries],
        )

    async def claim(
        self, now: datetime, lease_ends_at: datetime, rooms: Mapping[str, int], default_room: int
    ) -> list[Delivery]:
        """Take due deliveries under a lease: at most `rooms[webhook_id]` of an endpoint, else `default_room`."""
        rows = await self._database.fetch(
            _CLAIM, now, lease_ends_at, list(rooms.keys()), list(rooms.values()), default_room
        )
        return [self._delivery(row) for row in rows]

    async def begin_again(self, account_id: str, delivery_id: str, lease_ends_at: datetime) -> Delivery | None:
        """Make a finished delivery pending again, under a lease; None if it is pending already or there is none."""
        row = await self._database.fetchrow(
            _BEGIN_AGAIN, day_of_delivery(delivery_id), delivery_id, account_id, lease_ends_at
        )
        return None if row is None else self._delivery(row)

    async def delivery(self, account_id: str, delivery_id: str) -> Delivery | None:
        row = await self._database.fetchrow(
            f"SELECT {_DELIVERY} FROM delivery AS d WHERE day = $1 AND delivery_id = $2 AND account_id = $3",  # noqa: S608  # a constant
            day_of_delivery(delivery_id),
            delivery_id,
            account_id,
        )
        return None if row is None else self._delivery(row)

    async def page(
        self, account_id: str, webhook_id: str, message_id: str | None, behind: Place | None, limit: int
    ) -> list[Delivery]:
        """Return an endpoint's deliveries, newest first."""
        created_at, delivery_id = (behind.created_at, behind.delivery_id) if behind else (None, None)
        rows = await self._database.fetch(_PAGE, webhook_id, account_id, message_id, created_at, delivery_id, limit)
        return [self._delivery(row) for row in rows]

    # --- rows to values ------------------------------------------------------------------------------------------------

    def _sealed_log(self, delivery: Delivery) -> bytes:
        return self._sealer.seal(orjson.dumps(delivery.attempts))

    def _endpoint(self, row: asyncpg.Record) -> StoredEndpoint:
        secret = self._sealer.open(row["secret"]).decode()
        previous = row["previous_secret"]
        endpoint = Endpoint(
            webhook_id=row["webhook_id"],
            account_id=row["account_id"],
            url=URL(row["url"]),
            events=frozenset(row["events"]),
            description=row["description"],
            status=row["status"],
            reason=row["reason"],
            created_at=row["created_at"],
            key=SigningKey.of(secret),
            previous_key=None if previous is None else SigningKey.of(self._sealer.open(previous).decode()),
            overlap_ends_at=row["overlap_ends_at"],
            failing_since=row["failing_since"],
        )
        return StoredEndpoint(endpoint, secret, row["rotated_by"])

    def _delivery(self, row: asyncpg.Record) -> Delivery:
        return Delivery(
            delivery_id=row["delivery_id"],
            day=row["day"],
            account_id=row["account_id"],
            webhook_id=row["webhook_id"],
            event=row["event"],
            message_id=row["message_id"],
            lane=Lane(row["lane"]),
            body=self._sealer.open(row["body"]),
            created_at=row["created_at"],
            state=row["state"],
            tries=row["tries"],
            attempts=[_attempt(fields) for fields in orjson.loads(self._sealer.open(row["attempts"]))],
            next_attempt_at=row["next_attempt_at"],
        )


def _attempt(fields: dict[str, Any]) -> Attempt:
    return Attempt(**fields | {"at": datetime.fromisoformat(fields["at"])})
