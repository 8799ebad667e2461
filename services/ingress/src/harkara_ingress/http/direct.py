"""Routes that FastAPI describes and the middleware runs.

The way through FastAPI's routing and dependencies costs 60 µs a call; an endpoint that reads its request by itself has no
use for it. What the dependencies would have told the API's description is told here by hand.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

DEFINITIONS = "x-definitions"
"""Where an operation keeps the schemas its body refers to, until the description moves them to its components."""


Endpoint = Callable[[Request], Awaitable[Response]]


class DirectRoute(APIRoute):
    """A route of one method and a path without parameters."""

    def __init__(self, path: str, endpoint: Endpoint, method: str, **options: Any) -> None:
        super().__init__(path, endpoint, methods=[method], **options)
        self.key = (method, path)
        self.direct: Endpoint = endpoint


def body_of(model: type[BaseModel]) -> dict[str, Any]:
    """Describe a JSON body for `openapi_extra`."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    definitions = schema.pop("$defs", {})
    definitions[model.__name__] = schema
    reference = {"$ref": f"#/components/schemas/{model.__name__}"}
    return {
        "requestBody": {"required": True, "content": {"application/json": {"schema": reference}}},
        DEFINITIONS: definitions,
    }
