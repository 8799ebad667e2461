"""Taking a message in: check it against what is known here, make it durable, answer.

Everything that refuses is looked up in memory. What the checks let pass is judged again by the owners (compliance,
billing); what they refuse was never published. The 202 goes out only when the bus has the event on disk.
"""

from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple

import orjson

from harkara_chassis.clock import now_utc
from harkara_chassis.publisher import Publisher
from harkara_contracts.errors import ErrorCode, HarkaraError
from harkara_contracts.events import Content, MessageAccepted
from harkara_contracts.facts import BalanceFact
from harkara_contracts.ids import new_message_id
from harkara_contracts.subjects import Category
from harkara_ingress.access.accounts import Caller
from harkara_ingress.access.limits import Limiter
from harkara_ingress.refusals import RateLimitedError
from harkara_ingress.sending.idempotency import Idempotency
from harkara_ingress.sending.request import (
    SmsSend,
    answer_of,
    checked_channels,
    checked_mobile,
    content_of,
    event_of,
    price_name,
)
from harkara_ingress.sending.schedules import checked_schedule
from harkara_ingress.status.read_model import MessageRow, accepted_row
from harkara_registry import SANDBOX_TEMPLATES, Refused, Registry, RenderedSms, judge


class RefusedSendError(HarkaraError):
    """A rule of the field is broken; `refused` says which, and where."""

    def __init__(self, refused: Refused) -> None:
        super().__init__(refused.code, refused.message)
        self.refused = refused


class Checked(NamedTuple):
    """A send that nothing known here speaks against."""

    to: str
    category: Category
    content: Content
    sms: RenderedSms | None
    test_mode: bool
    send_at: datetime | None
    price_mp: int | None


class RecentMessages:
    """The last messages this process accepted, for as long as the read model may not have them yet."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._rows: OrderedDict[str, MessageRow] = OrderedDict()

    def add(self, event: MessageAccepted) -> None:
        self._rows[event.message_id] = accepted_row(event)
        if len(self._rows) > self._size:
            self._rows.popitem(last=False)

    def get(self, message_id: str) -> MessageRow | None:
        return self._rows.get(message_id)


class Acceptance:
    def __init__(
        self,
        publisher: Publisher,
        registry: Registry,
        balance: Callable[[str], BalanceFact | None],
        limiter: Limiter,
        idempotency: Idempotency,
        recent: RecentMessages,
        start_trace: Callable[[], str | None],
        timeout_s: float,
    ) -> None:
        self._publisher = publisher
        self._registry = registry
        self._balance = balance
        self._limiter = limiter
        self._idempotency = idempotency
        self._recent = recent
        self._start_trace = start_trace
        self._timeout_s = timeout_s

    async def send(self, caller: Caller, request: SmsSend, raw: bytes, idempotency_key: str | None) -> bytes:
        """Accept one message; return the body of the 202.

        Args:
            caller: whose message it is.
            request: what was asked.
            raw: the request as it came, to tell a repeat from another request.
            idempotency_key: the header, if there is one.

        Raises:
            HarkaraError: why it was not accepted.
        """
        if idempotency_key is None:
            return await self._accept(caller, request, new_message_id(), now_utc())
        return await self._idempotency.once(
            caller.account_id,
            idempotency_key,
            raw,
            lambda message_id, at: self._accept(caller, request, message_id, at),
        )

    def check(self, caller: Caller, request: SmsSend, now: datetime) -> Checked:
        """Check a send against the registry; what it would cost is told, whether it can be paid is not asked.

        Raises:
            HarkaraError: the first thing that is wrong with it.
        """
        channels = checked_channels(request)
        to = checked_mobile(request.to)
        send_at = checked_schedule(request.schedule_at, now)
        category = request.category or self.template_category(caller.account_id, request.template_id)
        content = content_of(request)
        test_mode = caller.test_only or bool(request.test_mode)
        verdict = judge(
            self._registry,
            account_id=caller.account_id,
            category=category,
            channels=channels,
            content=content,
            test_mode=test_mode,
        )
        if verdict.refused is not None:
            raise RefusedSendError(verdict.refused)
        price_mp = self.price_mp(caller.account_id, category, verdict.rendered.parts if verdict.rendered else 1)
        return Checked(to, category, content, verdict.rendered, test_mode, send_at, price_mp)

    def can_pay(self, caller: Caller, checked: Checked) -> bool:
        """Tell whether the last known balance covers a message; test messages cost nothing."""
        if checked.test_mode:
            return True
        balance = self._balance(caller.account_id)
        if balance is None:
            return False  # nobody ever topped it up
        if checked.price_mp is None:
            return balance.available_mp > 0  # the price is billing's to know
        return balance.available_mp >= checked.price_mp

    async def _accept(self, caller: Caller, request: SmsSend, message_id: str, accepted_at: datetime) -> bytes:
        await self._take_messages(caller, 1)
        checked = self.check(caller, request, accepted_at)
        if not self.can_pay(caller, checked):
            raise HarkaraError(
                ErrorCode.INSUFFICIENT_CREDITS,
                "The balance does not cover this message. Top up the account, then retry.",
            )
        event = event_of(
            request,
            message_id=message_id,
            account_id=caller.account_id,
            to=checked.to,
            category=checked.category,
            channels=request.wanted_channels(),
            content=checked.content,
            test_mode=checked.test_mode,
            accepted_at=accepted_at,
            send_at=checked.send_at,
        )
        try:
            await self._publisher.commit(event, self._start_trace(), self._timeout_s)
        except TimeoutError as error:
            raise HarkaraError(
                ErrorCode.UNAVAILABLE,
                "The message could not be made durable in time and may or may not be sent. "
                "Retry with an Idempotency-Key to send it once only.",
            ) from error
        self._recent.add(event)
        return orjson.dumps(answer_of(request, event, checked.sms))

    async def _take_messages(self, caller: Caller, count: int) -> None:
        decision = await self._limiter.take(f"messages:{caller.account_id}", caller.messages, count)
        if not decision.allowed:
            raise RateLimitedError(
                f"The account may send {decision.limit} messages a second. Wait as Retry-After says.", decision
            )

    def template_category(self, account_id: str, template_id: str | None) -> Category:
        """Return the category of a message that names none: its template's.

        Raises:
            HarkaraError: ERR_INVALID_REQUEST, it names no template either.
        """
        if template_id is None:
            raise HarkaraError(
                ErrorCode.INVALID_REQUEST, f"Field `category` is missing. Give one of {', '.join(Category)}."
            )
        sandbox = SANDBOX_TEMPLATES.get(template_id)
        template = sandbox.fact if sandbox else self._registry.template(account_id, template_id)
        # An unknown template is refused as such further on, or is the sandbox's, where any category goes.
        return template.category if template else Category.TRANSACTIONAL

    def price_mp(self, account_id: str, category: Category, units: int) -> int | None:
        """Return what so many units cost by the prices last told; None where none were."""
        balance = self._balance(account_id)
        unit_mp = balance.unit_price_mp.get(price_name(category)) if balance else None
        return None if unit_mp is None else unit_mp * units
