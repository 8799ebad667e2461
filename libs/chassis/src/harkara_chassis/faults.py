"""Which failures are the moment's and which are the event's.

A database or server that is away is waited for, in place: no event is to blame and none is counted against. Everything
else is tried again a few times, alone, and then kept in DEAD with its reason.
"""

import asyncpg
import nats.errors
import redis.exceptions

MAX_DELIVERIES = 6
FIRST_RETRY_S = 0.5
MAX_RETRY_S = 30.0

_PASSING: tuple[type[BaseException], ...] = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InternalClientError,  # what the driver says when the server ends an idle connection of the pool
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.QueryCanceledError,
    asyncpg.ReadOnlySQLTransactionError,  # a fail-over: this server is the former primary
    asyncpg.DiskFullError,
    asyncpg.OutOfMemoryError,
    redis.exceptions.ConnectionError,
    redis.exceptions.TimeoutError,
    nats.errors.TimeoutError,
    nats.errors.NoRespondersError,
)


def is_passing(error: BaseException) -> bool:
    """Tell whether waiting may mend it."""
    if isinstance(error, asyncpg.InterfaceError):
        # The driver's own class for a connection lost in mid-use; its other uses are programming errors.
        return "closed" in str(error) or "released" in str(error)
    return isinstance(error, _PASSING)


def retry_delay_s(deliveries: int) -> float:
    """Return how long to wait before delivery number `deliveries + 1`: 0.5 s, doubling, at most 30 s."""
    return min(FIRST_RETRY_S * 2.0 ** max(0, deliveries - 1), MAX_RETRY_S)
