"""Routes that FastAPI describes and the middleware runs.

The way through FastAPI's routing and dependencies costs 60 µs a call; an endpoint that reads its request by itself has no
use for it, nor for objects around what the middleware has in its hands anyway. What the dependencies would have told the
API's description is told here by hand.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi.routing import APIRoute
from pydantic import BaseModel

from harkara_ingress.http.context import RequestContext

DEFINITIONS = "x-definitions"
"""Where an operation keeps the schemas its body refers to, until the description moves them to its components."""


Endpoint = Callable[[RequestContext], Awaitable[bytes]]
"""Returns the body of a success, in JSON; everything else it raises."""


class DirectRoute(APIRoute):
    """A route of one method and a path without parameters. Its summary and description are the endpoint's docstring."""

    def __init__(self, path: str, endpoint: Endpoint, method: str, status: int, **options: Any) -> None:
        def described() -> None:
            """FastAPI would read a signature, and have more to describe than there is."""

        described.__name__, described.__doc__ = endpoint.__name__, endpoint.__doc__
        super().__init__(path, described, methods=[method], status_code=status, **options)
        self.key = (method, path)
        self.direct = endpoint
        self.status = status


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
