"""What the chassis' tests share: small services, conditions of the server, and the types of the fixtures."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeVar

from harkara_chassis import ServiceSettings
from harkara_chassis.service import Service
from harkara_contracts import consumers
from harkara_contracts.events import Event, MessageAccepted, MessageDeferred
from harkara_contracts.subjects import Lane

T = TypeVar("T")
Handler = Callable[[Sequence[MessageAccepted]], Awaitable[Sequence[Event]]]
Build = Callable[[Service[ServiceSettings]], Awaitable[None]]
Defer = Callable[[MessageAccepted], MessageDeferred]
ConsumerInfo = Callable[[str, str], Awaitable[dict[str, Any]]]

DURABLE = consumers.COMPLIANCE_MESSAGES.durable(Lane.OTP)


class MakeAccepted(Protocol):
    def __call__(self, lane: Lane = Lane.OTP, **more: object) -> MessageAccepted: ...


async def nothing(_: Service[ServiceSettings]) -> None:
    return


def reading(handler: Handler, **options: Any) -> Build:
    """Build a service that handles accepted messages."""

    async def build(service: Service[ServiceSettings]) -> None:
        service.consume(consumers.COMPLIANCE_MESSAGES, handler, **options)

    return build


def by_id(event: MessageAccepted) -> Callable[[MessageDeferred], bool]:
    return lambda told: told.message_id == event.message_id


async def eventually(look: Callable[[], Awaitable[T | None]], timeout_s: float = 15.0) -> T:
    """Await a condition of the server, which cannot be waited for otherwise, and return what made it true."""
    async with asyncio.timeout(timeout_s):
        while not (found := await look()):
            await asyncio.sleep(0.05)
    return found


async def until(condition: Callable[[], bool], timeout_s: float = 15.0) -> None:
    """Await a condition of this process that nothing announces."""
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.02)
