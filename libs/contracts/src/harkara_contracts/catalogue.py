"""Every event, fact and command of the platform, found by its type name."""

from harkara_contracts import commands, events, facts
from harkara_contracts.events import Event


def _concrete(base: type[Event]) -> list[type[Event]]:
    found: list[type[Event]] = []
    for child in base.__subclasses__():
        if "event" in vars(child):
            found.append(child)
        found.extend(_concrete(child))
    return found


_ALL = [event for event in _concrete(Event) if event.__module__.startswith("harkara_contracts.")]

BY_TYPE: dict[str, type[Event]] = {event.type_name(): event for event in _ALL}

EVENTS = [event for event in _ALL if event.__module__ == events.__name__]
FACTS = [event for event in _ALL if event.__module__ == facts.__name__]
COMMANDS = [event for event in _ALL if event.__module__ == commands.__name__]
