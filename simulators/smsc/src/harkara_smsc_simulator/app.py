"""Runs the simulator: SMPP on one port, the view on another, until SIGTERM or SIGINT."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import uvloop
from aiohttp import web

from harkara_smpp.smsc import SmscConfig
from harkara_smsc_simulator.behaviour import Behaviour, Behaviours, behaviour_from_environment
from harkara_smsc_simulator.engine import Engine
from harkara_smsc_simulator.http_view import HttpView
from harkara_smsc_simulator.store import Store, first_number


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Port 0 takes a free one; `keep` is how many messages (parts) are kept.

    `window` is how many deliver_sm may be unanswered on one session; `quick_acks` is Engine's.
    """

    host: str = "127.0.0.1"
    port: int = 2775
    http_port: int = 2780
    keep: int = 200_000
    window: int = 1_000
    quick_acks: bool = False
    behaviour: Behaviour = field(default_factory=Behaviour)


def settings_from_environment(environment: Mapping[str, str]) -> Settings:
    """HARKARA_SMSC_HOST, _PORT, _HTTP_PORT, _KEEP, _WINDOW, _QUICK_ACKS (1 for yes); one for each field of Behaviour."""
    defaults = Settings()
    return Settings(
        host=environment.get("HARKARA_SMSC_HOST", defaults.host),
        port=int(environment.get("HARKARA_SMSC_PORT", defaults.port)),
        http_port=int(environment.get("HARKARA_SMSC_HTTP_PORT", defaults.http_port)),
        keep=int(environment.get("HARKARA_SMSC_KEEP", defaults.keep)),
        window=int(environment.get("HARKARA_SMSC_WINDOW", defaults.window)),
        quick_acks=environment.get("HARKARA_SMSC_QUICK_ACKS") in {"1", "true"},
        behaviour=behaviour_from_environment(environment),
    )


@dataclass(frozen=True, slots=True)
class Running:
    """A simulator that listens; the ports are the real ones."""

    engine: Engine
    port: int
    http_port: int


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Running]:
    """A simulator on the current loop, for as long as the context lasts."""
    behaviours = Behaviours(settings.behaviour)
    engine = Engine(
        SmscConfig(host=settings.host, port=settings.port, system_id="HARKARA-SIM", window=settings.window),
        behaviours,
        Store(settings.keep, first_number()),
        quick_acks=settings.quick_acks,
    )
    await engine.start()
    runner = web.AppRunner(HttpView(engine, behaviours).application(), access_log=None)
    try:
        await runner.setup()
        await web.TCPSite(runner, settings.host, settings.http_port).start()
        yield Running(engine, engine.smsc.port, int(runner.addresses[0][1]))
    finally:
        await runner.cleanup()
        await engine.stop()


async def _serve(settings: Settings) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with running(settings):
        await stop.wait()


def main() -> None:
    """Blocks until SIGTERM or SIGINT."""
    uvloop.run(_serve(settings_from_environment(os.environ)))


if __name__ == "__main__":
    main()
