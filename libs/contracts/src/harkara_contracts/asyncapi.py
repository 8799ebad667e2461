"""AsyncAPI 3.0 of the bus, generated from the declarations that run: streams, events, consumers, commands.

`python -m harkara_contracts.asyncapi DIR_OF_SCHEMAS ASYNCAPI_FILE` writes both the JSON Schemas and the document.
"""

import json
import sys
from pathlib import Path
from typing import Any

from harkara_contracts import catalogue
from harkara_contracts.consumers import CONSUMERS
from harkara_contracts.events import Event, TimerDue
from harkara_contracts.facts import Fact
from harkara_contracts.schemas import schema_of
from harkara_contracts.streams import stream_of

_CONTENT_TYPE = "application/cloudevents-batch+json"


def address_of(event: type[Event]) -> str:
    """Return the subject of an event with its variable tokens in braces."""
    head = f"{event.domain}.v{event.major}.{event.event}"
    if issubclass(event, Fact):
        return f"{head}.{{key}}"
    if event is TimerDue:
        return f"{head}.{{owner}}.{{lane}}"
    if event.domain == "command":
        return f"command.v{event.major}.{getattr(event, 'service', '')}.{event.event}"
    return f"{head}.{{lane}}" if event.domain == "message" else f"{head}.{{lane}}.{{channel}}.{{carrier}}"


def document() -> dict[str, Any]:
    """Build the AsyncAPI document."""
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    messages: dict[str, Any] = {}
    for type_name, event in sorted(catalogue.BY_TYPE.items()):
        address = address_of(event)
        parameters = [part.strip("{}") for part in address.split(".") if part.startswith("{")]
        messages[type_name] = {
            "name": type_name,
            "contentType": _CONTENT_TYPE,
            "summary": (event.__doc__ or "").strip().split("\n")[0],
            "payload": {"$ref": f"schemas/{type_name}.json"},
        }
        channels[type_name] = {
            "address": address,
            "description": f"Stored in the stream {stream_of(address).name}.",
            "messages": {type_name: {"$ref": f"#/components/messages/{type_name}"}},
        }
        if parameters:
            channels[type_name]["parameters"] = {name: {} for name in parameters}
    for spec in CONSUMERS:
        for event in spec.events:
            operations[f"{spec.service}.{event.type_name()}"] = {
                "action": "receive",
                "channel": {"$ref": f"#/channels/{event.type_name()}"},
                "summary": f"{spec.service} reads it by {', '.join(spec.durable(lane) for lane in spec.lanes)}.",
            }
    for command in catalogue.COMMANDS:
        operations[f"{getattr(command, 'service', '')}.{command.type_name()}"] = {
            "action": "receive",
            "channel": {"$ref": f"#/channels/{command.type_name()}"},
        }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Harkara events",
            "version": "1",
            "description": "One stream message carries 1 to 256 events of one subject as a CloudEvents JSON batch.",
        },
        "defaultContentType": _CONTENT_TYPE,
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages},
    }


def write(schemas: Path, asyncapi: Path) -> None:
    """Write every JSON Schema and the AsyncAPI document; schemas of events that are gone are taken away."""
    schemas.mkdir(parents=True, exist_ok=True)
    for old in schemas.glob("*.json"):
        if old.stem not in catalogue.BY_TYPE:
            old.unlink()
    for type_name, event in catalogue.BY_TYPE.items():
        (schemas / f"{type_name}.json").write_text(_pretty(schema_of(event)))
    asyncapi.write_text(_pretty(document()))


def _pretty(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    write(Path(sys.argv[1]), Path(sys.argv[2]))
