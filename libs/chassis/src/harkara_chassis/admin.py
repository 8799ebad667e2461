"""Health and metrics over HTTP, on a port of their own.

`/healthz` the process lives (its connection to the bus is not lost for good), `/readyz` it can do its job now (and what is
not as it should be), `/startz` it has started, though what is outside of the platform may still be away, `/metrics`
Prometheus.
"""

from collections.abc import Callable

from aiohttp import web

from harkara_chassis.health import Health
from harkara_chassis.metrics import exposition


class AdminServer:
    """Serves the four pages. `health` tells how the service is now; `start_problems` what it still has to wait for."""

    def __init__(
        self,
        host: str,
        port: int,
        alive: Callable[[], bool],
        health: Callable[[], Health],
        start_problems: Callable[[], list[str]],
    ) -> None:
        self._alive = alive
        self._health = health
        self._start_problems = start_problems
        app = web.Application()
        app.add_routes(
            [
                web.get("/healthz", self._healthz),
                web.get("/startz", self._startz),
                web.get("/readyz", self._readyz),
                web.get("/metrics", self._metrics),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False)
        self._host = host
        self._port = port

    async def start(self) -> None:
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, self._port).start()

    @property
    def port(self) -> int:
        """The port it listens on, also where the system chose it."""
        address: tuple[str, int] = self._runner.addresses[0]
        return address[1]

    async def close(self) -> None:
        await self._runner.cleanup()

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.json_response({"alive": True}) if self._alive() else web.json_response({"alive": False}, status=503)

    async def _startz(self, _: web.Request) -> web.Response:
        problems = self._start_problems()
        return web.json_response({"started": not problems, "problems": problems}, status=503 if problems else 200)

    async def _readyz(self, _: web.Request) -> web.Response:
        health = self._health()
        page = {
            "ready": health.is_ready,
            "problems": health.problems,
            "warnings": health.warnings,
            "details": dict(health.details),
        }
        return web.json_response(page, status=200 if health.is_ready else 503)

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=exposition(), content_type="text/plain")
