"""What became of messages."""

from typing import Annotated

from fastapi import APIRouter, Query

from harkara_ingress.http.context import Reader
from harkara_ingress.status.message_queries import MessageFilter, MessagePage, MessageQueries, MessageStatus


def message_routes(queries: MessageQueries) -> APIRouter:
    router = APIRouter(tags=["messages"])

    @router.get("/v1/messages/{message_id}")
    async def message(caller: Reader, message_id: str) -> MessageStatus:
        """Tell the state of a message and every attempt at it."""
        return await queries.status(caller.account_id, message_id)

    @router.get("/v1/messages")
    async def messages(caller: Reader, wanted: Annotated[MessageFilter, Query()]) -> MessagePage:
        """List messages accepted in [start, end), newest first; the last seven days unless told otherwise.

        `channel` is any of those a message may go by.
        """
        return await queries.page(caller.account_id, wanted)

    return router
