"""Taking back what has not left."""

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict

from harkara_ingress.http.context import Sender
from harkara_ingress.sending.cancelling import Cancelling


class Cancelled(BaseModel):
    """The message will not leave; it costs nothing."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"status": "cancelled", "message_id": "TN20261122B8Q0JY7RSTKBRZ7B4"}}
    )

    status: str = "cancelled"
    message_id: str


def cancelling_routes(cancelling: Cancelling) -> APIRouter:
    router = APIRouter(tags=["messages"])

    @router.delete("/v1/messages/{message_id}")
    async def cancel_message(caller: Sender, message_id: str) -> Cancelled:
        """Cancel a message that waits for its schedule or for the promotional hours.

        One that has left, or has come to its end, is refused with 409; cancelling twice is no error.
        """
        await cancelling.cancel(caller, message_id)
        return Cancelled(message_id=message_id)

    return router
