"""Runs peers in turn. Each starts from nothing, is measured in every variant, and is gone before the next one starts.

Rounds are interleaved, all peers in the first, then all in the second, so that a slow hour of the machine hits all alike.
"""

import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from bench import load as load_generator
from bench.load import FIRST_NUMBER, NUMBERS, LoadResult
from bench.peers import callbacks as callback_sink
from bench.peers import carrier
from bench.peers.carrier import Manner
from bench.peers.figures import Phase, Spending, phase_of
from bench.peers.peer import Peer, Running, Wiring
from bench.peers.tree import tree_of
from bench.processes import Watch
from bench.worker import BenchError, Worker
from harkara_cli.errors import HarkaraError

MAX_MESSAGES = 150_000
QUIET = "quiet"
VARIANTS = {
    "main": Manner(),
    "acks": Manner(quick_acks=False),
    "slow": Manner(response_delay_s=0.02),
}
"""The SMSC's manners, in the order they are measured."""

QUIET_RATE = 50.0
NOISY_SHARE = 0.08
_WARM_UP = 300
_AFTER_BIND = 50
_STANDARD = 20_000
_LEAST = 100
_POLL_S = 0.1
_RSS_EVERY_S = 0.5
_BIND_PATIENCE_S = 60.0
_SILENCE_S = 45.0
"""Jasmin looks for a receipt's message again after ten seconds, Kannel lets some messages wait for as long."""
_PHASE_S = 600.0
_SETTLE_S = 0.5


@dataclass(frozen=True, kw_only=True)
class Options:
    """`messages` scales every peer's own numbers, which belong to 20,000. `quiet_s` 0 leaves the quiet phase out."""

    peers: Sequence[Peer]
    variants: Sequence[str]
    cache: Path
    rounds: int = 3
    messages: int = _STANDARD
    quiet_s: float = 10.0
    each_step: bool = False

    def count(self, peer: Peer, variant: str) -> int:
        return max(_LEAST, peer.messages[variant] * self.messages // _STANDARD)


@dataclass
class Result:
    """`phases[peer][phase]` has one entry for each round that came to it; `failures` are sentences."""

    phases: dict[str, dict[str, list[Phase]]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def add(self, peer: Peer, name: str, phase: Phase) -> None:
        self.phases.setdefault(peer.name, {}).setdefault(name, []).append(phase)


def measure(options: Options, say: Callable[[str], None], after_run: Callable[[Result], None]) -> Result:
    """`after_run` sees what there is after each run of a peer. A run that fails is told and left out."""
    for peer in options.peers:
        peer.install(options.cache)
    result = Result()
    for number in range(1, options.rounds + 1):
        for peer in options.peers:
            say(f"Round {number} of {options.rounds}: {peer.title} …")
            try:
                with closing(_run(peer, options)) as phases:
                    for name, phase in phases:
                        result.add(peer, name, phase)
                        say(_line(name, phase))
            except (BenchError, HarkaraError) as error:
                result.failures.append(f"round {number}, {peer.title}: {error}")
                say(f"  failed: {error}")
            after_run(result)
    return result


def _line(name: str, phase: Phase) -> str:
    spent = phase.spending
    told = (
        f"  {name:<6}{phase.sent:>7,} sent: accepted {phase.accepted_rate:,.0f}/s, submitted {phase.submitted_rate:,.0f}/s,"
        f" end to end {phase.end_to_end:,.0f}/s, request → submit {phase.to_submit.p50_ms:,.1f} / {phase.to_submit.p99_ms:,.1f}"
        f" ms, {phase.cpu_s_per_1000:.2f} CPU s/1,000, other programs {spent.others_share:.0%}"
    )
    flaws = {
        "accepted and not called back": phase.missing,
        "not accepted": phase.sent - phase.accepted,
        "submitted twice": phase.submitted_twice,
        "called back twice": phase.called_back_twice,
    }
    wrong = ", ".join(f"{count:,} {what}" for what, count in flaws.items() if count)
    if phase.refusal:
        wrong += f" ({phase.refusal[:200]})"
    return told + (f"\n         {wrong}" if wrong else "") + ("  ← noisy" if spent.others_share > NOISY_SHARE else "")


def _run(peer: Peer, options: Options) -> Generator[tuple[str, Phase], None, None]:
    """One peer from nothing to its end, phase by phase."""
    with (
        _folder(peer.name) as folder,
        Worker("smsc", carrier.serve) as smsc,
        Worker("sink", callback_sink.serve) as sink,
        Worker("load", load_generator.serve) as load,
    ):
        sink.ask("read", peer.final_receipt)
        wiring = Wiring(smsc.first_answer, sink.first_answer, folder, options.cache, options.each_step)
        with peer.running(wiring) as running:
            bench = _Bench(running, smsc, sink, load)
            bench.await_bind()
            warm_up = bench.phase(min(_WARM_UP, options.messages))
            if warm_up.missing:
                raise BenchError(f"{warm_up.missing} of {warm_up.sent} messages of the warm-up were not called back")
            if options.quiet_s:
                yield QUIET, bench.phase(int(QUIET_RATE * options.quiet_s), QUIET_RATE)
            for variant in options.variants:
                bench.meet(VARIANTS[variant])
                yield variant, bench.phase(options.count(peer, variant))


@contextmanager
def _folder(name: str) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix=f"harkara-bench-{name}-"))
    # As root, a database runs as another user and has to pass through.
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass
class _Bench:
    """The parts at work together."""

    running: Running
    smsc: Worker
    sink: Worker
    load: Worker
    manner: Manner = field(default_factory=Manner)

    def meet(self, manner: Manner) -> None:
        """From now on the SMSC is so."""
        if manner != self.manner:
            self.manner = manner
            self.smsc.ask("be", manner)
            self.await_bind()
            # A peer may take a moment to believe that its carrier is back.
            self.phase(_AFTER_BIND)

    def await_bind(self) -> None:
        deadline = time.monotonic() + _BIND_PATIENCE_S
        while not self.smsc.ask("bound"):
            self.running.check()
            if time.monotonic() > deadline:
                raise BenchError(f"it has not bound to the SMSC for {_BIND_PATIENCE_S:g} s")
            time.sleep(_POLL_S)

    def phase(self, count: int, rate: float | None = None) -> Phase:
        """Ends when every accepted message has its final callback, or when none has come for long."""
        first_number = FIRST_NUMBER + random.randrange(NUMBERS - count)  # noqa: S311  # not a secret
        plan = replace(self.running.plan, first_number=first_number, count=count, rate=rate)
        began_at = time.monotonic()
        self.sink.ask("take")
        observer = _Observer(self)
        self.load.begin("run", plan)
        while not self.load.has_answered(_POLL_S):
            observer.look()
        load = self.load.answer(1.0)
        if not isinstance(load, LoadResult):
            raise BenchError(str(load))
        self._await_callbacks(len(load.accepted), began_at + _PHASE_S, observer)
        spending = observer.finish()
        time.sleep(_SETTLE_S)
        phase = phase_of(load, self.smsc.ask("arrivals", began_at), self.sink.ask("take"), spending)
        if not phase.submitted:
            raise BenchError(f"nothing came through to the SMSC; {phase.accepted} of {count} accepted; {phase.refusal}")
        return phase

    def _await_callbacks(self, wanted: int, deadline: float, observer: "_Observer") -> None:
        seen, seen_at = -1, time.monotonic()
        while (now := time.monotonic()) < deadline:
            final: int = self.sink.ask("final")
            if final >= wanted:
                return
            if final > seen:
                seen, seen_at = final, now
            elif now - seen_at > _SILENCE_S:
                return
            observer.look()
            time.sleep(_POLL_S)


class _Observer:
    """CPU and memory of the peer's processes, and CPU of everybody else's, while a phase lasts."""

    def __init__(self, bench: _Bench) -> None:
        self._bench = bench
        self._tools = {
            "bench": os.getpid(),
            "bench-smsc": bench.smsc.pid,
            "bench-sink": bench.sink.pid,
            "bench-load": bench.load.pid,
        }
        self._peak_rss_mib = 0.0
        self._looked_at = 0.0
        self._watch = Watch({**self._tools, **bench.running.pids()})

    def look(self) -> None:
        if time.monotonic() - self._looked_at >= _RSS_EVERY_S:
            self._looked_at = time.monotonic()
            self._bench.running.check()
            pids = self._bench.running.pids()
            self._watch.follow(pids)
            own = set(pids.values())
            resident = sum(entry.rss_mib for entry in tree_of(own) if entry.pid in own)
            self._peak_rss_mib = max(self._peak_rss_mib, resident)
        self._watch.sample()

    def finish(self) -> Spending:
        self._looked_at = 0.0
        self.look()
        usage = self._watch.finish()
        peers = [used for name, used in usage.items() if name not in self._tools]
        tools = [used for name, used in usage.items() if name in self._tools]
        return Spending(
            cpu_s=sum(used.cpu_s for used in peers),
            peak_rss_mib=self._peak_rss_mib,
            pss_mib=sum(used.pss_mib for used in peers),
            bench_cpu_s=sum(used.cpu_s for used in tools),
            others_share=self._watch.others_share(),
        )
