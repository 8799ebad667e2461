"""The open event log over Server-Sent Events."""

from typing import Annotated

from fastapi import APIRouter, Header, Query
from starlette.requests import Request

from harkara_ingress.access.accounts import Scope
from harkara_ingress.access.admission import Admission
from harkara_ingress.http.context import Reader, context_of
from harkara_ingress.http.event_stream import EventStream
from harkara_ingress.status.event_log import BEGINNING, EventLog

_EXAMPLE = (
    "retry: 2000\n: following\n\n"
    "id: 1729-0\nevent: message.sent\n"
    'data: {"event":"message.sent","message_id":"TN20261122A1B2C3D4E5F6G7H8J","channel":"sms","to":"919876543210",'
    '"sender":"HRKARA","status":"SENT","carrier":"jio","sent_at":"2026-11-22T09:30:00.125Z","correlation_id":null,'
    '"timestamp":"2026-11-22T09:30:00.125Z","sequence":1}\n\n'
    ": alive\n\n"
)
_ANSWER = {
    "description": "Events as they happen, for as long as the connection is open.",
    "content": {"text/event-stream": {"schema": {"type": "string"}, "example": _EXAMPLE}},
}
_ID = "The id of the last event that is known already. "


def event_routes(log: EventLog, admission: Admission, heartbeat_s: float) -> APIRouter:
    router = APIRouter(tags=["events"])

    @router.get("/v1/events", status_code=200, response_class=EventStream, responses={200: _ANSWER})
    async def events(
        request: Request,
        caller: Reader,
        types: Annotated[
            str | None, Query(max_length=500, description="Only these events, by name, separated by commas.")
        ] = None,
        last_event_id: Annotated[
            str | None,
            Query(
                max_length=32, description=f"{_ID}`{BEGINNING}` gives everything that is kept. The header goes first."
            ),
        ] = None,
        resumed_from: Annotated[
            str | None,
            Header(alias="Last-Event-ID", max_length=32, description=f"{_ID}SSE clients send it by themselves."),
        ] = None,
    ) -> EventStream:
        """Follow the account's events as they happen: the bodies of webhooks, each with an id to resume behind.

        Begins with what happens from now on, or behind the last event id. Should events behind it be kept no more, the
        first event is `log.truncated`. A comment comes whenever 15 seconds were quiet.
        """
        context = context_of(request)
        following = log.follow(
            caller.account_id,
            resumed_from or last_event_id or None,
            _names(types),
            lambda: admission.still_admits(context, Scope.READ),
        )
        return EventStream(following, heartbeat_s)

    return router


def _names(types: str | None) -> frozenset[str] | None:
    return frozenset(name.strip() for name in types.split(",")) if types else None
