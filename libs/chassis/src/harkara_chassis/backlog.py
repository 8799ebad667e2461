"""How far behind every consumer is, for those who run the platform.

A number of waiting messages does not tell a busy lane from a dead one. The age of the oldest message that nobody has
finished does, and how long ago the last one was finished.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
from nats.aio.client import Client

from harkara_chassis.clock import now_utc
from harkara_chassis.connection import connect
from harkara_chassis.provisioner import ProvisioningError, differences
from harkara_contracts.consumers import COMMAND_CONSUMERS, CONSUMERS
from harkara_contracts.streams import DEAD

_API_TIMEOUT_S = 2.0
_NO_LANE = ""
_MICROSECOND_DIGITS = 6


@dataclass(frozen=True)
class Backlog:
    """One durable. `waiting` was not delivered yet, `in_hand` not finished; `idle_s`: since one was last finished.

    `oldest_s` is the age of the oldest message that is not finished, None where there is none.
    """

    service: str
    durable: str
    lane: str
    waiting: int
    in_hand: int
    oldest_s: float | None
    idle_s: float | None


@dataclass(frozen=True)
class BusView:
    """`dead` counts what is kept in DEAD; `differences` are those from the declarations."""

    backlogs: list[Backlog]
    dead: int
    newest_dead_s: float | None
    differences: list[str]


async def look(nats_url: str) -> BusView:
    """Ask the bus for everything; the caller bounds the time.

    Raises:
        OSError, TimeoutError, ProvisioningError, nats.errors.Error: it cannot be reached, or does not answer.
    """
    bus = await connect(nats_url, "status", closing_is_loss=lambda: False)
    try:
        lanes = [
            (spec.service, spec.stream.name, spec.durable(lane), lane.value)
            for spec in CONSUMERS
            for lane in spec.lanes
        ]
        lanes += [(spec.service, spec.stream.name, spec.durable, _NO_LANE) for spec in COMMAND_CONSUMERS]
        found, dead, different = await asyncio.gather(
            asyncio.gather(*(_backlog(bus.client, *lane) for lane in lanes)),
            _api(bus.client, f"STREAM.INFO.{DEAD.name}"),
            differences(bus.client),
        )
    finally:
        await bus.close()
    state = dead.get("state", {})
    newest_s = _age_s(state["last_ts"]) if state.get("messages") else None
    return BusView([one for one in found if one is not None], state.get("messages", 0), newest_s, different)


async def _backlog(client: Client, service: str, stream: str, durable: str, lane: str) -> Backlog | None:
    """Ask for one durable; None where there is none, which `differences` tells."""
    info = await _api(client, f"CONSUMER.INFO.{stream}.{durable}")
    if "error" in info:
        return None
    waiting, in_hand = info["num_pending"], info["num_ack_pending"]
    floor = info["ack_floor"]
    oldest_s = await _oldest_s(client, stream, info["config"], floor["stream_seq"] + 1) if waiting or in_hand else None
    idle_s = _age_s(floor["last_active"]) if floor.get("last_active") else None
    return Backlog(service, durable, lane, waiting, in_hand, oldest_s, idle_s)


async def _oldest_s(client: Client, stream: str, config: Mapping[str, Any], first: int) -> float | None:
    """The age of the first message from this place on that the consumer is for."""
    filters = config.get("filter_subjects") or [config["filter_subject"]]
    requests = (_api(client, f"STREAM.MSG.GET.{stream}", {"seq": first, "next_by_subj": one}) for one in filters)
    answers = await asyncio.gather(*requests)
    return max((_age_s(answer["message"]["time"]) for answer in answers if "message" in answer), default=None)


async def _api(client: Client, what: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
    payload = orjson.dumps(body) if body else b""
    message = await client.request(f"$JS.API.{what}", payload, timeout=_API_TIMEOUT_S)
    answer: dict[str, Any] = orjson.loads(message.data)
    if answer.get("error", {}).get("code", 0) >= 500:  # noqa: PLR2004  # as in HTTP: the server cannot say
        raise ProvisioningError(str(answer["error"].get("description")))
    return answer


def _age_s(told: str) -> float:
    """How long ago a time was that the server told, by RFC 3339 with up to nine digits of a second."""
    whole, _, rest = told.partition(".")
    digits = rest.rstrip("Z")[:_MICROSECOND_DIGITS] or "0"
    at = datetime.fromisoformat(f"{whole.rstrip('Z')}.{digits.ljust(_MICROSECOND_DIGITS, '0')}").replace(tzinfo=UTC)
    return max(0.0, (now_utc() - at).total_seconds())
