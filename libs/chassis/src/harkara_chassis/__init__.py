"""The chassis every service runs on.

A service is a composition root, thin handlers and a pure domain; all that is the same in every service stands here:
settings, the bus with its record batches, the one way to handle an event, facts, commands, timers, database, health,
metrics, traces and the drain at the end. Services never touch the NATS client themselves.
"""

from harkara_chassis.service import Service, run
from harkara_chassis.settings import ServiceSettings

__all__ = ["Service", "ServiceSettings", "run"]
