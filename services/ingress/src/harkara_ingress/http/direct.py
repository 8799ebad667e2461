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


def operation_id(route: APIRoute) -> str:
    """Name an operation for generated clients, as in `keys_create`."""
    tag = str(route.tags[0]) if route.tags else "other"
    return tag if route.name == tag else f"{tag}_{route.name}"


class DirectRoute(APIRoute):
    """A route of one method and a path without parameters. Its summary and description are the endpoint's docstring.

    `max_body_bytes` is for the few whose bodies may be larger than `Settings.max_body_bytes`: of such bodies only a few
    are held at once, and their JSON is not looked into here, neither for doubled keys nor for nesting.
    """

    def __init__(
        self,
        path: str,
        endpoint: Endpoint,
        method: str,
        status: int,
        *,
        max_body_bytes: int | None = None,
        **options: Any,
    ) -> None:
        def described() -> None:
            """FastAPI would read a signature, and have more to describe than there is."""

        described.__name__, described.__doc__ = endpoint.__name__, endpoint.__doc__
        super().__init__(
            path,
            described,
            methods=[method],
            status_code=status,
            generate_unique_id_function=operation_id,
            **options,
        )
        self.key = (method, path)
        self.direct = endpoint
        self.status = status
        self.max_body_bytes = max_body_bytes


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
