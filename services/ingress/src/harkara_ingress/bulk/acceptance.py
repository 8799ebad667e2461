"""Taking a bulk in: judge every recipient, make all durable, answer.

What is known to be wrong with all of it (sender, template, channel, schedule, a balance that does not cover the whole)
refuses the call; what is wrong with a recipient rejects that one. The work on recipients is done in short slices, so that
requests which come meanwhile do not wait for a hundred thousand of them.

Nothing may leave before the client is answered, and nothing that was answered may be lost. So the portions are published
first, as timers; then `batch.accepted`, which is the point of no return; then comes the 202. A portion whose time comes
before that point is looked at again, and dropped when its batch is never accepted.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import orjson
from msgspec import Raw

from harkara_chassis.clock import now_utc
from harkara_chassis.publisher import Publisher
from harkara_contracts.errors import ErrorCode, HarkaraError
from harkara_contracts.events import BatchAccepted, Content, MessageAccepted, TimerDue
from harkara_contracts.ids import batch_id_of, new_message_id
from harkara_ingress.access.accounts import Caller
from harkara_ingress.bulk.portions import Cutter, Entry, Written, timers
from harkara_ingress.bulk.request import Recipient, check_count, read_recipient, shown_number
from harkara_ingress.refusals import WrongFieldsError
from harkara_ingress.sending.acceptance import Acceptance, Checked
from harkara_ingress.sending.idempotency import Idempotency
from harkara_ingress.sending.request import SmsSend, checked_channels, content_of, event_of
from harkara_ingress.sending.schedules import checked_schedule
from harkara_registry import Registry, earliest_departure, judge

_SLICE_S = 0.001
_PAUSE_S = 0.001
"""As long as it works it pauses: a process that never rests is the last one the system wakes for a request."""

_LOOK_AT_CLOCK_EVERY = 16
_PUBLISHED_AT_ONCE = 16
_FIRST_FAULTS = 20
_REJECTED = ("index", "to", "error_code", "error_message")

_OF_ALL = frozenset(
    {
        ErrorCode.SENDER_NOT_REGISTERED,
        ErrorCode.SENDER_SUSPENDED,
        ErrorCode.TEMPLATE_NOT_FOUND,
        ErrorCode.DLT_TEMPLATE_SUSPENDED,
        ErrorCode.TEMPLATE_CATEGORY_MISMATCH,
        ErrorCode.DLT_CHAIN_INVALID,
    }
)
"""What speaks against every recipient alike, whatever its variables say."""


class Rejected(NamedTuple):
    """A recipient that will not be tried, by its place in the request. `to` is as it was written, None if unreadable."""

    place: int
    to: str | None
    error_code: str
    error_message: str


def _nobody_left(rejected: Sequence[Rejected]) -> WrongFieldsError:
    first = rejected[0]
    return WrongFieldsError(
        ErrorCode(first.error_code),
        f"None of the {len(rejected):,} recipients can be sent to. The first: {first.error_message}",
        [{"field": f"recipients.{one.place}", "message": one.error_message} for one in rejected[:_FIRST_FAULTS]],
    )


class _Judged(NamedTuple):
    portions: list[Written]
    total: int
    units: int
    rejected: list[Rejected]


class RecentBatches:
    """The last batches this process accepted, for as long as the table may not have them yet."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._batches: OrderedDict[str, BatchAccepted] = OrderedDict()

    def add(self, batch: BatchAccepted) -> None:
        self._batches[batch.batch_id] = batch
        if len(self._batches) > self._size:
            self._batches.popitem(last=False)

    def get(self, batch_id: str) -> BatchAccepted | None:
        return self._batches.get(batch_id)


class BulkAcceptance:
    """Takes bulks in, for whichever protocol they came by."""

    def __init__(
        self,
        acceptance: Acceptance,
        publisher: Publisher,
        registry: Registry,
        idempotency: Idempotency,
        recent: RecentBatches,
        *,
        per_second: int,
        timeout_s: float,
        clock: Callable[[], datetime] = now_utc,
    ) -> None:
        self._acceptance = acceptance
        self._publisher = publisher
        self._registry = registry
        self._idempotency = idempotency
        self._recent = recent
        self._per_second = per_second
        self._timeout_s = timeout_s
        self._clock = clock

    async def accept(
        self,
        caller: Caller,
        request: SmsSend,
        recipients: Sequence[Raw],
        *,
        idempotency_key: str | None = None,
        fingerprint: bytes = b"",
    ) -> bytes:
        """Accept a bulk; return the body of the 202, JSON.

        The body has `status`, `batch_id`, `total_recipients`, `estimated_credits`, `rejected` (a list of `index`, `to`,
        `error_code`, `error_message`) and, where the client gave them, `scheduled_at`, `correlation_id`, `test_mode`.

        Args:
            caller: whose bulk it is; that it may send was checked.
            request: what all messages share, as the model of a single send (`SmsSend`, `MessageSend`); its `to` is not
                looked at and may be "", its `variables` are those that a recipient does not give itself.
            recipients: in the order of the request, 1 to 100,000, each a JSON object not yet read:
                `Raw(b'{"to": "919876543210", "variables": {"name": "Asha"}, "correlation_id": "order-7"}')`.
            idempotency_key: the client's, if it gave one.
            fingerprint: what tells this request from another under the same key: a digest of path and body.

        Raises:
            HarkaraError: why nothing of it was accepted; `WrongFieldsError` when each recipient was rejected.
        """
        check_count(len(recipients))
        if idempotency_key is None:
            return await self._accept(caller, request, recipients, new_message_id(), self._clock())
        return await self._idempotency.once(
            caller.account_id,
            idempotency_key,
            fingerprint,
            lambda claimed_id, at: self._accept(caller, request, recipients, claimed_id, at),
        )

    async def _accept(
        self, caller: Caller, request: SmsSend, recipients: Sequence[Raw], claimed_id: str, at: datetime
    ) -> bytes:
        prototype = self._prototype(caller, request, batch_id_of(claimed_id), at)
        judged = await self._judge(prototype, recipients)
        if not judged.total:
            raise _nobody_left(judged.rejected)
        self._check_balance(caller, prototype, judged.units)
        batch = _batch(request, prototype, judged)
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._publish(caller, prototype, judged.portions)
                await self._publisher.publish([batch])
        except TimeoutError as error:
            raise HarkaraError(
                ErrorCode.UNAVAILABLE,
                "The bulk could not be made durable in time and may or may not be sent. "
                "Retry with an Idempotency-Key to send it once only.",
            ) from error
        self._recent.add(batch)
        return orjson.dumps(_answer(request, batch, judged.rejected))

    def _prototype(self, caller: Caller, request: SmsSend, batch_id: str, at: datetime) -> MessageAccepted:
        channels = checked_channels(request)
        send_at = checked_schedule(request.schedule_at, at)
        category = request.category or self._acceptance.template_category(caller.account_id, request.template_id)
        event = event_of(
            request,
            message_id="",
            account_id=caller.account_id,
            to="",
            category=category,
            channels=channels,
            content=content_of(request),
            test_mode=caller.test_only or bool(request.test_mode),
            accepted_at=at,
            send_at=send_at,
        )
        return event.model_copy(update={"batch_id": batch_id})

    async def _judge(self, prototype: MessageAccepted, recipients: Sequence[Raw]) -> _Judged:
        """Judge all recipients, with pauses for others.

        Raises:
            HarkaraError: what speaks against each of them.
        """
        judge_one = _Judge(self._registry, prototype)
        cutter, rejected, units = Cutter(), list[Rejected](), 0
        slice_end = time.perf_counter() + _SLICE_S
        for index, given in enumerate(recipients):
            try:
                recipient = read_recipient(given)
                units += judge_one(recipient)
            except HarkaraError as error:
                if error.code in _OF_ALL:
                    raise
                rejected.append(Rejected(index, shown_number(given), error.code.value, error.message))
            else:
                cutter.add(Entry(index, recipient.to, judge_one.variables, recipient.correlation_id))
            if index % _LOOK_AT_CLOCK_EVERY == 0 and time.perf_counter() > slice_end:
                await asyncio.sleep(_PAUSE_S)
                slice_end = time.perf_counter() + _SLICE_S
        return _Judged(cutter.finish(), cutter.count, units, rejected)

    def _check_balance(self, caller: Caller, prototype: MessageAccepted, units: int) -> None:
        category = prototype.category
        price_mp = self._acceptance.price_mp(caller.account_id, category, units)
        whole = Checked("", category, prototype.content, None, prototype.test_mode, prototype.send_at, price_mp)
        if not self._acceptance.can_pay(caller, whole):
            raise HarkaraError(
                ErrorCode.INSUFFICIENT_CREDITS,
                f"The balance does not cover all {units:,} credits of this bulk. Top up the account, then retry.",
            )

    async def _publish(self, caller: Caller, prototype: MessageAccepted, portions: Sequence[Written]) -> None:
        """Publish the timers, the first portion's last: its time is now, and by then all others are stored."""
        now = self._clock()
        start = max(now, earliest_departure(prototype.category, prototype.send_at, now))
        per_second = caller.messages.count / caller.messages.period_s if caller.messages else self._per_second
        waiting = list[TimerDue]()
        for timer in timers(prototype, portions[::-1], start, per_second):
            waiting.append(timer)
            if len(waiting) == _PUBLISHED_AT_ONCE:
                await self._publisher.publish(waiting)
                waiting = []
        await self._publisher.publish(waiting)


class _Judge:
    """Judges recipients of one batch. `variables` are those of the last one."""

    def __init__(self, registry: Registry, prototype: MessageAccepted) -> None:
        self._registry = registry
        self._prototype = prototype
        shared = dict(prototype.content)
        self._defaults: dict[str, str] = shared.pop("variables")
        self._shared: dict[str, Any] = shared
        self.variables: dict[str, str] = {}

    def __call__(self, recipient: Recipient) -> int:
        """Return how many units a message to this recipient is.

        Raises:
            HarkaraError: why it may not be sent.
        """
        prototype = self._prototype
        self.variables = {**self._defaults, **recipient.variables} if self._defaults else recipient.variables
        verdict = judge(
            self._registry,
            account_id=prototype.account_id,
            category=prototype.category,
            channels=prototype.channels,
            content=Content.model_construct(**self._shared, variables=self.variables),
            test_mode=prototype.test_mode,
        )
        if verdict.refused is not None:
            raise HarkaraError(verdict.refused.code, verdict.refused.message)
        return verdict.rendered.parts if verdict.rendered else 1


def _batch(request: SmsSend, prototype: MessageAccepted, judged: _Judged) -> BatchAccepted:
    return BatchAccepted(
        batch_id=prototype.batch_id or "",
        account_id=prototype.account_id,
        lane=prototype.lane,
        test_mode=prototype.test_mode,
        correlation_id=request.correlation_id,
        category=prototype.category,
        channels=prototype.channels,
        template_id=request.template_id,
        sender=request.sender,
        total=judged.total,
        rejected=len(judged.rejected),
        portions=len(judged.portions),
        estimated_credits=judged.units,
        accepted_at=prototype.accepted_at,
        send_at=prototype.send_at,
    )


def _answer(request: SmsSend, batch: BatchAccepted, rejected: Sequence[Rejected]) -> dict[str, Any]:
    """Return the body of the 202; what the client did not give is not in it."""
    answer: dict[str, Any] = {
        "status": "accepted",
        "batch_id": batch.batch_id,
        "total_recipients": batch.total,
        "estimated_credits": batch.estimated_credits,
        "rejected": [dict(zip(_REJECTED, one, strict=True)) for one in rejected],
    }
    if batch.correlation_id is not None:
        answer["correlation_id"] = batch.correlation_id
    if request.schedule_at is not None:
        answer["scheduled_at"] = request.schedule_at
    if batch.test_mode or request.test_mode is not None:
        answer["test_mode"] = batch.test_mode
    return answer
