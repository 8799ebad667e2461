"""The one owner of streams and consumers: makes the live server equal to the declarations in the contracts.

Services never declare anything (a client that "declares" a stream quietly rewrites its limits, and one that finds a
durable never updates it). They ask `differences()` and are not ready while there are any.
"""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import nats.errors
import orjson
from nats.aio.client import Client

from harkara_chassis.connection import connect
from harkara_contracts.consumers import COMMAND_CONSUMERS, CONSUMERS
from harkara_contracts.streams import STREAMS, StreamSpec

_NANOSECONDS = 1_000_000_000
_API_TIMEOUT_S = 10.0
_ELECTION_WAIT_S = 30.0
_ASK_AGAIN_S = 0.25
_NOT_NOW = 503
"""JetStream's code for a cluster that has no leader at the moment."""
_NOT_FOUND = (10059, 10014)
"""JetStream's err_code for an absent stream and an absent consumer."""

_SUBJECTS = frozenset({"subjects", "filter_subject", "filter_subjects"})

Config = dict[str, Any]


class ProvisioningError(Exception):
    """The server refused, and why."""


def stream_config(spec: StreamSpec) -> Config:
    """Return the stream's configuration as JetStream's API takes it; how many replicas is the deployment's choice."""
    config: Config = {
        "name": spec.name,
        "subjects": list(spec.subjects),
        "retention": "limits",
        "storage": "file",
        "discard": "old",
        "max_age": int(spec.max_age_s * _NANOSECONDS),
        "max_bytes": spec.max_bytes,
        "max_msgs_per_subject": 1 if spec.last_per_subject else -1,
        "duplicate_window": int(spec.duplicate_window_s * _NANOSECONDS),
        "allow_direct": True,
    }
    if spec.schedules:
        # Neither can be switched off again on a living stream, so they are right from the first day.
        config["allow_msg_schedules"] = True
        config["allow_msg_ttl"] = True
    return config


def consumer_configs() -> list[tuple[str, Config]]:
    """Return `(stream, consumer configuration)` of every durable of the platform."""
    configs: list[tuple[str, Config]] = []
    for spec in CONSUMERS:
        for lane in spec.lanes:
            config = _durable(spec.durable(lane), spec.filters(lane), spec.ack_wait_s(lane), spec.max_ack_pending)
            configs.append((spec.stream.name, config))
    commands = [(spec.stream.name, _durable(spec.durable, (spec.filter,), 30.0, 256)) for spec in COMMAND_CONSUMERS]
    return configs + commands


def _durable(name: str, filters: tuple[str, ...], ack_wait_s: float, max_ack_pending: int) -> Config:
    config: Config = {
        "durable_name": name,
        "deliver_policy": "all",
        "ack_policy": "explicit",
        "ack_wait": int(ack_wait_s * _NANOSECONDS),
        # Unlimited: a message that ran out of deliveries would stay in the stream, undelivered, without a word.
        # The chassis counts deliveries and moves what cannot be handled to DEAD itself.
        "max_deliver": -1,
        "max_ack_pending": max_ack_pending,
        "replay_policy": "instant",
    }
    if len(filters) == 1:
        config["filter_subject"] = filters[0]
    else:
        config["filter_subjects"] = list(filters)
    return config


async def provision(nats_url: str, replicas: int | None = None) -> list[str]:
    """Create or update every stream and consumer, and return what was changed, one line each.

    Args:
        nats_url: of any node, or several.
        replicas: on how many nodes of a cluster every stream is kept, 1 to 5; its durables follow it. None leaves
            streams as they are and gives new ones one replica.

    Raises:
        ConnectionError: no server answered.
        ProvisioningError: the server refused a configuration.
    """
    bus = await connect(nats_url, "provision", closing_is_loss=lambda: False)
    try:
        return await _provision(bus.client, replicas)
    finally:
        await bus.close()


async def _provision(client: Client, replicas: int | None) -> list[str]:
    done: list[str] = []
    for spec in STREAMS:
        wanted = stream_config(spec)
        if replicas is not None:
            wanted["num_replicas"] = replicas
        live = await _info(client, f"STREAM.INFO.{spec.name}", _ELECTION_WAIT_S)
        if live is None:
            await _call(client, f"STREAM.CREATE.{spec.name}", wanted)
            done.append(f"stream {spec.name} created")
        elif different := _different(wanted, live):
            await _call(client, f"STREAM.UPDATE.{spec.name}", live | wanted)
            done.append(f"stream {spec.name} updated: {', '.join(different)}")
    for stream, wanted in consumer_configs():
        name = wanted["durable_name"]
        live = await _info(client, f"CONSUMER.INFO.{stream}.{name}", _ELECTION_WAIT_S)
        if live is not None and not (different := _different(wanted, live)):
            continue
        await _call(client, f"CONSUMER.CREATE.{stream}.{name}", {"stream_name": stream, "config": wanted})
        done.append(f"consumer {name} {'created' if live is None else 'updated: ' + ', '.join(different)}")
    return done


async def differences(client: Client, service: str | None = None) -> list[str]:
    """Compare the live server with the declarations; an empty list is as it should be.

    Args:
        client: a connected client.
        service: look at this service's consumers only (and at all streams).

    Raises:
        ProvisioningError: the server cannot say.
    """
    found: list[str] = []
    for spec in STREAMS:
        wanted = stream_config(spec)
        live = await _info(client, f"STREAM.INFO.{spec.name}")
        if live is None:
            found.append(f"stream {spec.name} is missing")
        else:
            found.extend(f"stream {spec.name} differs in {field}" for field in _lacking(wanted, live))
    for stream, wanted in consumer_configs():
        name: str = wanted["durable_name"]
        if service is not None and not name.startswith(f"{service}__"):
            continue
        live = await _info(client, f"CONSUMER.INFO.{stream}.{name}")
        if live is None:
            found.append(f"consumer {name} is missing")
        else:
            found.extend(f"consumer {name} differs in {field}" for field in _lacking(wanted, live))
    return found


def _different(wanted: Mapping[str, Any], live: Mapping[str, Any]) -> list[str]:
    return [name for name, value in wanted.items() if _plain(live.get(name)) != _plain(value)]


def _lacking(wanted: Mapping[str, Any], live: Mapping[str, Any]) -> list[str]:
    """As `_different`, but more subjects than wanted are as it should be.

    While an upgrade rolls on, the next release has provisioned already, and the processes of this one still do their work.
    """
    different = _different(wanted, live)
    return [name for name in different if name not in _SUBJECTS or not _subjects(wanted) <= _subjects(live)]


def _subjects(config: Mapping[str, Any]) -> set[str]:
    """What a stream takes or a consumer reads."""
    one = config.get("filter_subject")
    return {*config.get("subjects", ()), *config.get("filter_subjects", ()), *([one] if one else ())}


def _plain(value: Any) -> Any:
    """Make an absent field and its zero alike: the server leaves out what is zero."""
    return value or None


async def _info(client: Client, what: str, patience_s: float = 0.0) -> Config | None:
    answer = await _ask(client, what, b"", patience_s)
    error = answer.get("error")
    if error is None:
        config: Config = answer["config"]
        return config
    if error.get("err_code") in _NOT_FOUND:
        return None
    raise ProvisioningError(f"{what}: {error.get('description')}")


async def _call(client: Client, what: str, body: Config) -> None:
    answer = await _ask(client, what, json.dumps(body).encode(), _ELECTION_WAIT_S)
    if error := answer.get("error"):
        raise ProvisioningError(f"{what}: {error.get('description')}")


async def _ask(client: Client, what: str, body: bytes, patience_s: float) -> Config:
    """Ask, and for so long again while a cluster elects who answers. All that is asked for may be asked for twice."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience_s
    while True:
        try:
            message = await client.request(f"$JS.API.{what}", body, timeout=_API_TIMEOUT_S)
            answer: Config = orjson.loads(message.data)
        except (nats.errors.TimeoutError, nats.errors.NoRespondersError) as error:
            answer = {"error": {"code": _NOT_NOW, "description": f"no answer ({type(error).__name__})"}}
        if answer.get("error", {}).get("code") != _NOT_NOW or loop.time() > deadline:
            return answer
        await asyncio.sleep(_ASK_AGAIN_S)
