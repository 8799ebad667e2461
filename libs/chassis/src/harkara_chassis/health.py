"""Whether a service can do its work now: asked in the background, told at once.

A health page that itself asks the bus and the database hangs when they do, and loads them as often as it is asked. Here
each dependency has a pulse: one question is under way at a time, and how long it has been under way is an answer, too. So
a server that is frozen is told from one that answers, without a time-out to wait for.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

INTERVAL_S = 2.0
"""Between two questions."""

PATIENCE_S = 3.0
"""So long an answer may take; a busy machine is not a broken one."""

Ask = Callable[[], Awaitable[Sequence[str]]]


@dataclass(frozen=True)
class Health:
    """What a service says of itself. Each text is a sentence without numbers, texts or secrets of messages.

    Args:
        problems: why it cannot do its work; none means that it is ready.
        warnings: what does not keep it from its work but is not as it should be.
        details: what an operator wants to see besides, by name.
    """

    problems: list[str]
    warnings: list[str] = field(default_factory=list)
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_ready(self) -> bool:
        return not self.problems


class Pulse:
    """One dependency, asked for ever.

    Args:
        part: the name it has among a service's parts.
        ask: returns what is wrong, in sentences; what it raises is wrong as well.
        silence: what it means that no answer comes, such as "the database has not answered".
    """

    def __init__(self, part: str, ask: Ask, silence: str) -> None:
        self.part = part
        self.answered = asyncio.Event()
        """Set once the first question was answered, or failed."""

        self._ask = ask
        self._silence = silence
        self._found: Sequence[str] = ()
        self._asked_at: float | None = None
        self._loop = asyncio.get_running_loop()

    async def run(self) -> None:
        while True:
            self._asked_at = self._loop.time()
            try:
                self._found = await self._ask()
            except Exception as error:  # noqa: BLE001  # whatever broke is the answer
                self._found = (f"{self._silence} ({type(error).__name__})",)
            self._asked_at = None
            self.answered.set()
            await asyncio.sleep(INTERVAL_S)

    @property
    def problems(self) -> list[str]:
        """What is wrong now."""
        silent_s = 0.0 if self._asked_at is None else self._loop.time() - self._asked_at
        if silent_s > PATIENCE_S:
            return [f"{self._silence} for {silent_s:.0f} s"]
        return list(self._found)


class Vitals:
    """The parts of one service, and how they are together."""

    def __init__(self) -> None:
        self.pulses: list[Pulse] = []
        self._checks: dict[str, Callable[[], Sequence[str]]] = {}
        self._outside: set[str] = set()
        self._survived: set[str] = set()
        self._warnings: list[Callable[[], Sequence[str]]] = []
        self._details: dict[str, Callable[[], Any]] = {}

    def ask(self, part: str, ask: Ask, silence: str) -> None:
        """Give a part a pulse; see `Pulse`."""
        self.pulses.append(Pulse(part, ask, silence))

    def pulse(self, part: str) -> Pulse:
        return next(pulse for pulse in self.pulses if pulse.part == part)

    def check(self, part: str, check: Callable[[], Sequence[str]], *, outside: bool = False) -> None:
        """Look at a part when asked. `outside`: it is not the platform's, so the service starts without it."""
        self._checks[part] = check
        if outside:
            self._outside.add(part)

    def warn(self, check: Callable[[], Sequence[str]]) -> None:
        """Tell also of what does not keep the service from its work."""
        self._warnings.append(check)

    def tell(self, name: str, value: Callable[[], Any]) -> None:
        """Show a value in the details; it must be JSON's."""
        self._details[name] = value

    def survive(self, parts: Sequence[str]) -> None:
        """Do the main work also without these parts: what is wrong with them is a warning."""
        self._survived.update(parts)

    async def first_answers(self) -> None:
        """Wait until every pulse has answered once, or the patience is over."""
        waits = [asyncio.ensure_future(pulse.answered.wait()) for pulse in self.pulses]
        if waits:
            _, late = await asyncio.wait(waits, timeout=PATIENCE_S)
            for wait in late:
                wait.cancel()

    def health(self) -> Health:
        problems: list[str] = []
        warnings: list[str] = []
        for part, found in self._found().items():
            (warnings if part in self._survived else problems).extend(found)
        for check in self._warnings:
            warnings.extend(check())
        return Health(problems, warnings, {name: value() for name, value in self._details.items()})

    def start_problems(self) -> list[str]:
        """What a start has to wait for; the platform's own parts, and none that the service can do without."""
        skipped = self._survived | self._outside
        return [text for part, found in self._found().items() if part not in skipped for text in found]

    def _found(self) -> dict[str, list[str]]:
        found = {part: list(check()) for part, check in self._checks.items()}
        for pulse in self.pulses:
            # What is known to be away need not be said to be silent, too.
            if not found.get(pulse.part):
                found[pulse.part] = pulse.problems
        return found
