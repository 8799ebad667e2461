"""What a fault's scenario has in its hands: a stack under load, its processes, its carrier, and the clock.

The load runs in a process of its own, so a scenario is a plain function that waits, breaks something, and mends it.
The moments at which it broke and mended are what the seconds to recover are counted from.
"""

import asyncio
import random
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bench.account import Account
from bench.stack import Stack
from bench.worker import Worker
from tests.chaos.processes import Freezer, identity_of
from tests.e2e.client import Phones
from tests.e2e.waiting import eventually

from harkara_cli.status import ProcessStatus, status_of

SERVICES = ("ingress", "compliance", "routing", "billing", "sms-sender", "webhook-dispatcher")
SERVERS = ("nats", "postgres", "valkey")
_GRACEFUL = {"postgres": signal.SIGINT}
"""At SIGTERM it would wait until its clients have left, which ours never do, and take no new ones meanwhile."""

FATES = {"receipt_states": {"DELIVRD": 0.9, "UNDELIV": 0.1}}
"""One message in ten ends at a phone that cannot be reached: told as failed, and paid, since the carrier did its work."""


@dataclass
class Scene:
    """`messages` are sent at `rate` a second from `started_at` on; times in monotonic seconds.

    `stack` is what the fault asked for, `sink` receives the webhooks, `random` is seeded.
    """

    stack: Stack
    account: Account
    sink: Worker
    random: random.Random
    messages: int
    rate: float
    started_at: float = field(default_factory=time.monotonic)
    begun_at: float | None = None
    healed_at: float | None = None
    freezer: Freezer = field(default_factory=Freezer)

    @property
    def load_s(self) -> float:
        return self.messages / self.rate

    @property
    def phones(self) -> Phones:
        """The carrier's simulator."""
        return Phones(self.stack.smsc_url)

    # -- the clock ----------------------------------------------------------------------------------------------

    def wait(self, seconds: float) -> None:
        time.sleep(seconds)

    def wait_until(self, share: float) -> None:
        """Until this share (0 to 1) of the load's time has passed."""
        time.sleep(max(0.0, self.started_at + share * self.load_s - time.monotonic()))

    def begun(self) -> None:
        """The fault begins now."""
        self.begun_at = time.monotonic()

    def healed(self) -> None:
        """What was broken is whole from now on."""
        self.healed_at = time.monotonic()

    @property
    def recovers_from(self) -> float | None:
        """When the fault was healed or, where nothing heals it, began."""
        return self.healed_at or self.begun_at

    # -- processes ----------------------------------------------------------------------------------------------

    def kill(self, *names: str) -> None:
        self._signal(dict.fromkeys(names, signal.SIGKILL))

    def terminate(self, *names: str) -> None:
        """Asks them to end in good order, each by the signal it knows for that."""
        self._signal({name: _GRACEFUL.get(name, signal.SIGTERM) for name in names})

    def _signal(self, numbers: Mapping[str, signal.Signals]) -> None:
        """To all of them at one moment; who they are is looked up before. The supervisor starts again what ends."""
        processes = [(identity_of(self.stack, name), number) for name, number in numbers.items()]
        self.begun()
        for process, number in processes:
            process.signal(number)

    def freeze(self, *names: str) -> None:
        processes = {name: identity_of(self.stack, name) for name in names}
        self.begun()
        for name, process in processes.items():
            self.freezer.freeze(name, process)

    def thaw(self, *names: str) -> None:
        for name in names:
            self.freezer.thaw(name)
        self.healed()

    def status(self) -> dict[str, ProcessStatus]:
        """What `harkara status` tells of each process now."""
        assert self.stack.home
        record = self.stack.home.require_running()
        return {one.name: one for one in asyncio.run(status_of(self.stack.home, record))}

    def is_ready(self) -> bool:
        return all(one.ready for one in self.status().values())

    def await_ready(self, timeout_s: float = 60.0) -> None:
        eventually(self.is_ready, timeout_s=timeout_s, what="a stack that is whole again")

    # -- the carrier --------------------------------------------------------------------------------------------

    def behave(self, system_id: str | None = None, /, **settings: Any) -> None:
        """Have the carriers, or one of them, do as set; what happens to messages at the phones stays as it was."""
        self.phones.behave({**FATES, **settings} if system_id is None else settings, system_id)

    def restore(self) -> None:
        """The carriers behave again."""
        self.phones.restore()
        self.phones.behave(FATES)
