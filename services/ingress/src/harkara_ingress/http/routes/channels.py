"""The channels that are not carried yet: their bodies are checked all the same, so that a client can be written now."""

from harkara_contracts.subjects import Channel
from harkara_ingress.access.accounts import Scope
from harkara_ingress.channels.common import CommonSend
from harkara_ingress.channels.sends import SENDS
from harkara_ingress.http.context import RequestContext, caller_with
from harkara_ingress.http.direct import DirectRoute, body_of
from harkara_ingress.http.routes.sending import KEY_HEADER, REFUSALS, Accepted
from harkara_ingress.sending.request import check_offered, checked_mobile


def channel_routes() -> list[DirectRoute]:
    return [_route(channel, model) for channel, model in SENDS.items()]


def _route(channel: Channel, model: type[CommonSend]) -> DirectRoute:
    async def send(context: RequestContext) -> bytes:
        caller_with(context, Scope.SEND)
        wanted = model.model_validate_json(context.body)
        if channel is not Channel.EMAIL:
            checked_mobile(wanted.to)
        check_offered([channel])
        raise AssertionError("a channel that is offered has a way of its own")

    send.__name__ = f"send_{channel.value}"
    send.__doc__ = f"Send one message by {channel.value}. Refused while the platform has no carrier for it."
    return DirectRoute(
        f"/v1/{channel.value}/send",
        send,
        "POST",
        202,
        response_model=Accepted,
        responses=REFUSALS,
        tags=["sending"],
        openapi_extra=body_of(model) | {"parameters": [KEY_HEADER]},
    )
