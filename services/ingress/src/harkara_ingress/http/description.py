"""The API's description (OpenAPI 3.1): what FastAPI knows of the routes, and what holds for all of them."""

from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from harkara_ingress.http.direct import DEFINITIONS
from harkara_ingress.http.examples import answer_example, request_example

TAGS = {
    "sending": "One message at a time.",
    "bulk": "One text to many recipients, and what became of it.",
    "messages": "What became of messages, and cancelling what has not left.",
    "events": "What happens to messages, as it happens.",
    "analytics": "Rates, latencies and errors.",
    "registry": "Entities, senders, templates and links, as registered with DLT.",
    "webhooks": "Where events are sent to, and what was sent.",
    "accounts": "The account, its money and what it used.",
    "keys": "API keys.",
    "security": "From where and how signed requests may come.",
    "sandbox": "Trying it out without a carrier.",
}

_REQUEST_HEADERS: dict[str, Any] = {
    "X-Request-Id": {
        "name": "X-Request-Id",
        "in": "header",
        "required": False,
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9._:-]{1,128}$"},
        "description": "Your own id for this request; it comes back in the answer. One of another form is replaced.",
    },
}
_COUNT = {"type": "integer", "minimum": 0}
_HEADERS: dict[str, Any] = {
    "X-Request-Id": {"description": "The request's id; quote it to us.", "schema": {"type": "string"}},
    "X-RateLimit-Limit": {
        "description": "What is allowed in a period, of the limit that counts here.",
        "schema": _COUNT,
    },
    "X-RateLimit-Remaining": {"description": "What could still come at once.", "schema": _COUNT},
    "X-RateLimit-Reset": {"description": "Unix seconds at which all of it is there again.", "schema": _COUNT},
    "Retry-After": {
        "description": "With 429 and 503: seconds to wait before another try.",
        "schema": {"type": "integer", "minimum": 1},
    },
}
_ON_EVERY_ANSWER = ("X-Request-Id", "X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset")
_MAY_BE_TRIED_AGAIN = {"4XX", "5XX", "429", "503"}


def describe(app: FastAPI) -> dict[str, Any]:
    """Make the description; every operation is secured, and refuses with a 400 where FastAPI says 422."""
    description = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    components = description.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    components["securitySchemes"] = {
        "api_key": {"type": "http", "scheme": "bearer", "description": "An API key of the account."}
    }
    components["headers"] = _HEADERS
    components["parameters"] = _REQUEST_HEADERS
    description["security"] = [{"api_key": []}]
    operations = list(_operations(description))
    for operation in operations:
        schemas.update(operation.pop(DEFINITIONS, {}))
        if operation["responses"].get("422", {}).get("description") == "Validation Error":
            del operation["responses"]["422"]
    schemas.pop("HTTPValidationError", None)
    schemas.pop("ValidationError", None)
    for operation in operations:
        _complete(operation, schemas)
    used = {tag for operation in operations for tag in operation.get("tags", ())}
    description["tags"] = [{"name": name, "description": words} for name, words in TAGS.items() if name in used]
    return description


def _operations(description: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for operations in description["paths"].values():
        yield from operations.values()


def _complete(operation: dict[str, Any], schemas: dict[str, Any]) -> None:
    parameters = operation.setdefault("parameters", [])
    parameters.extend({"$ref": f"#/components/parameters/{name}"} for name in _REQUEST_HEADERS)
    for content in operation.get("requestBody", {}).get("content", {}).values():
        content.setdefault("example", request_example(content["schema"], schemas))
    for status, response in operation["responses"].items():
        names = [*_ON_EVERY_ANSWER, *(("Retry-After",) if status in _MAY_BE_TRIED_AGAIN else ())]
        response["headers"] = {name: {"$ref": f"#/components/headers/{name}"} for name in names}
        if status[0] in "45":
            response["content"] = {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorBody"}}}
        for content in response.get("content", {}).values():
            content.setdefault("example", answer_example(content["schema"], schemas))
