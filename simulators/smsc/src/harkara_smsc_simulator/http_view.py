"""The simulator over HTTP: what the phones received, what happened, and the settings."""

import json
import time
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import Any

from aiohttp import web

from harkara_smpp import DeliverSm, EsmClass
from harkara_smsc_simulator.behaviour import BehaviourError, Behaviours
from harkara_smsc_simulator.engine import Counts, Engine
from harkara_smsc_simulator.magic import MAGIC_NUMBERS
from harkara_smsc_simulator.text import encode_text
from harkara_smsc_simulator.view import arrivals, messages_to

_DEFAULT_LIMIT = 100
_MAX_LIMIT = 1_000_000
_MAX_BODY = 1_000_000
_MAX_TEXT = 2_000
_PAGE = files("harkara_smsc_simulator").joinpath("page.html").read_text("utf-8")


class HttpView:
    """Routes over one engine."""

    def __init__(self, engine: Engine, behaviours: Behaviours) -> None:
        self._engine = engine
        self._behaviours = behaviours
        self._boot_at = datetime.now(UTC) - timedelta(seconds=time.monotonic())

    def application(self) -> web.Application:
        application = web.Application(client_max_size=_MAX_BODY)
        application.add_routes(
            [
                web.get("/", self._page),
                web.get("/messages", self._messages),
                web.post("/messages", self._send),
                web.get("/arrivals", self._arrivals),
                web.get("/stats", self._stats),
                web.get("/behaviour", self._behaviour),
                web.put("/behaviour", self._change_behaviour),
                web.delete("/behaviour", self._restore_behaviour),
                web.get("/magic-numbers", self._magic_numbers),
                web.post("/drop", self._drop),
                web.post("/reset", self._reset),
            ]
        )
        return application

    async def _page(self, _request: web.Request) -> web.Response:
        return web.Response(text=_PAGE, content_type="text/html")

    async def _messages(self, request: web.Request) -> web.Response:
        limit = _count(request, "limit", _DEFAULT_LIMIT)
        return web.json_response(messages_to(self._engine.store, request.query.get("to"), limit, self._boot_at))

    async def _send(self, request: web.Request) -> web.Response:
        """A phone sends: {from, to, text, system_id?}."""
        asked = await _json_object(request)
        values = {name: asked.get(name) for name in ("from", "to", "text")}
        system_id = asked.get("system_id")
        if not all(isinstance(value, str) for value in values.values()) or not isinstance(system_id, str | None):
            raise _bad_request("from, to and text must be text, and system_id where it is given")
        if len(values["text"] or "") > _MAX_TEXT:
            raise _bad_request(f"text is longer than {_MAX_TEXT} characters")
        try:
            bodies = _mo_bodies(values["from"] or "", values["to"] or "", values["text"] or "")
        except ValueError as error:
            raise _bad_request(str(error)) from None
        if not self._engine.send_mo(bodies, system_id):
            raise web.HTTPConflict(text="no ESME that receives is bound")
        return web.json_response({"parts": len(bodies)}, status=202)

    async def _arrivals(self, request: web.Request) -> web.Response:
        since = _number(request, "since", 0.0)
        limit = _count(request, "limit", _MAX_LIMIT)
        body = json.dumps(arrivals(self._engine.store, since, limit), separators=(",", ":"))
        return web.Response(text=body, content_type="application/json")

    async def _stats(self, _request: web.Request) -> web.Response:
        engine = self._engine
        by_system_id = {system_id: counts.as_json() for system_id, counts in engine.counts.items()}
        total = {name: sum(counts[name] for counts in by_system_id.values()) for name in Counts.__slots__}
        return web.json_response(
            {
                **total,
                "duplicates": engine.store.duplicates,
                "refusals": {f"0x{status:08X}": count for status, count in engine.refusals.items()},
                "receipts_to_come": len(engine.receipts_to_come),
                "backlog": engine.backlog,
                "kept": len(engine.store),
                "sessions": sorted(session.system_id for session in engine.smsc.sessions if session.bind),
                "system_ids": by_system_id,
                "monotonic": time.monotonic(),
            }
        )

    async def _behaviour(self, _request: web.Request) -> web.Response:
        behaviours = self._behaviours
        return web.json_response({"all": behaviours.for_all.as_json(), "system_ids": behaviours.overrides})

    async def _change_behaviour(self, request: web.Request) -> web.Response:
        """Settings to change, for `?system_id=` or for all; gives what holds now."""
        try:
            changed = self._behaviours.change(await _json_object(request), request.query.get("system_id"))
        except BehaviourError as error:
            raise _bad_request(str(error)) from None
        return web.json_response(changed.as_json())

    async def _restore_behaviour(self, _request: web.Request) -> web.Response:
        self._behaviours.restore()
        return web.json_response(self._behaviours.for_all.as_json())

    async def _magic_numbers(self, _request: web.Request) -> web.Response:
        return web.json_response(MAGIC_NUMBERS)

    async def _drop(self, request: web.Request) -> web.Response:
        return web.json_response({"dropped": self._engine.drop_connections(request.query.get("system_id"))})

    async def _reset(self, _request: web.Request) -> web.Response:
        self._engine.reset()
        return web.json_response({})


def _mo_bodies(sender: str, to: str, text: str) -> list[bytes]:
    return [
        DeliverSm(
            source_addr_ton=1,
            source_addr_npi=1,
            source_addr=sender,
            destination_addr=to,
            esm_class=EsmClass.UDHI if esm_class else EsmClass.DEFAULT,
            data_coding=data_coding,
            short_message=octets,
        ).to_body()
        for esm_class, data_coding, octets in encode_text(text)
    ]


def _count(request: web.Request, name: str, default: int) -> int:
    return min(int(_number(request, name, default)), _MAX_LIMIT)


def _number(request: web.Request, name: str, default: float) -> float:
    """A query parameter that is not negative."""
    try:
        value = float(request.query.get(name, default))
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise _bad_request(f"{name} must be a number, zero or more")
    return value


async def _json_object(request: web.Request) -> dict[str, Any]:
    try:
        value = await request.json()
    except ValueError:
        raise _bad_request("the body is no JSON") from None
    if not isinstance(value, dict):
        raise _bad_request("the body is no JSON object")
    return value


def _bad_request(reason: str) -> web.HTTPBadRequest:
    return web.HTTPBadRequest(text=reason)
