"""The application: all routes, the edge in front of them, and the API's description."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Match, Route
from starlette.types import ASGIApp

from harkara_ingress.access.admission import Admission
from harkara_ingress.http.common import ErrorBody
from harkara_ingress.http.context import context_of
from harkara_ingress.http.description import describe
from harkara_ingress.http.direct import DirectRoute, operation_id
from harkara_ingress.http.docs import docs_page
from harkara_ingress.http.errors import refusal_of
from harkara_ingress.http.middleware import Edge
from harkara_ingress.settings import Settings

_DESCRIPTION = (
    "One API for messages to people in India. Every call takes `Authorization: Bearer <key>`; every answer has "
    "`X-Request-Id`, `X-RateLimit-Limit`, `X-RateLimit-Remaining` and `X-RateLimit-Reset` (unix seconds). "
    "A refusal has `error_code`, `error_message` and, where fields are wrong, `errors`."
)


_METHOD_NOT_ALLOWED = 405


def create_application(
    direct: Sequence[DirectRoute],
    routers: Iterable[APIRouter],
    *,
    settings: Settings,
    admission: Admission,
    is_draining: Callable[[], bool],
) -> ASGIApp:
    app = FastAPI(
        title="Harkara",
        version="1",
        description=_DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        strict_content_type=False,
        generate_unique_id_function=operation_id,
        redirect_slashes=False,
        responses={"4XX": {"model": ErrorBody}, "5XX": {"model": ErrorBody}},
        exception_handlers={HTTPException: _refuse, RequestValidationError: _refuse, Exception: _refuse},
    )
    app.router.routes.extend(direct)
    for router in routers:
        app.include_router(router)
    description = describe(app)

    @app.get("/openapi.json", include_in_schema=False)
    async def openapi() -> dict[str, Any]:
        return description

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(docs_page(description))

    return Edge(app, direct=direct, settings=settings, admission=admission, is_draining=is_draining)


async def _refuse(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException) and error.status_code == _METHOD_NOT_ALLOWED:
        error = HTTPException(error.status_code, headers={"Allow": _allowed(request)})
    request_id = context_of(request).request_id
    return refusal_of(error, request_id).response(request_id)


def _allowed(request: Request) -> str:
    """List the methods of a path; the framework would name those of its first route only."""
    routes = (context.original_route for context in iter_route_contexts(request.app.routes))
    matching = [
        route for route in routes if isinstance(route, Route) and route.matches(request.scope)[0] is not Match.NONE
    ]
    # A path of its own is no id of a thing: /v1/messages/send is not the message "send".
    named = [route for route in matching if route.path == request.scope["path"]]
    return ", ".join(sorted(set[str]().union(*(route.methods or () for route in named or matching))))
