"""The tables, as Markdown, and their place in the documentation."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.profile.command import Result
from bench.profile.counters import Statement
from bench.profile.floors import ECHO, HOP, INSERT, SMPP, WEBHOOK
from bench.profile.layers import Layer
from bench.worker import BenchError

BEGIN = "<!-- profile: begin (written by `python -m bench profile --docs`) -->"
END = "<!-- profile: end -->"
_LEAST_US = 0.05
_LEAST_ROLE_US = 1.0
_LEAST_ROWS = 0.01
_EVERYTHING = 0.9
_STATEMENTS = 12
_STATEMENT_LENGTH = 70


def markdown(result: Result) -> str:
    """All tables, the layers first."""
    return "\n".join([*_layers(result), *_floors(result), *_postgres(result), *_bus(result)])


def renew(file: Path, table: str) -> None:
    """Puts the table between the two marker comments of a document."""
    text = file.read_text()
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise BenchError(f"{file} has no place for the table: it needs the lines {BEGIN} and {END}")
    file.write_text(f"{before}{BEGIN}\n\n{table.strip()}\n\n{END}{after}")


def hot_functions(result: Result, count: int) -> str:
    """The Python functions that most time is spent in or below, by service; those that everything is below left out."""
    lines = []
    for service, profile in result.profiles.items():
        us = result.cpu_us(service)
        lines.append(f"{service}: {us:.0f} µs, {profile.samples} samples")
        named = [
            (function, samples)
            for function, samples in profile.functions.most_common()
            if function.endswith(".py)") and samples < _EVERYTHING * profile.samples
        ]
        lines += [f"  {samples / profile.samples * us:7.1f} µs  {function}" for function, samples in named[:count]]
    return "\n".join(lines)


def _layers(result: Result) -> Iterator[str]:
    services = sorted(result.profiles, key=lambda service: -result.cpu_us(service))
    columns = {service: result.layers_us(service) for service in services}
    yield _row("CPU a message, µs", [*services, "sum"])
    yield _rule(len(services) + 1)
    for layer in Layer:
        values = [columns[service][layer] for service in services]
        if sum(values) > _LEAST_US:
            yield _row(layer, [*(f"{value:.1f}" for value in values), f"**{sum(values):.0f}**"])
    totals = [result.cpu_us(service) for service in services]
    yield _row("**sum**", [f"**{value:.0f}**" for value in (*totals, sum(totals))])
    others = {name: us for name in result.clean.usage if name not in services and (us := result.cpu_us(name)) >= 1}
    yield ""
    yield (
        f"Beside them: {', '.join(f'{name} {us:.0f}' for name, us in others.items())}. "
        f"{result.messages:,} messages at {result.clean.figures.rates.end_to_end:,.0f}/s; other programs used "
        f"{result.clean.others_share:.0%} of the machine."
    )
    yield ""


def _floors(result: Result) -> Iterator[str]:
    """Beside each floor what the layer costs in the stack. The bare figures hold their part of loop and kernel too."""
    if not result.floors:
        return
    yield _row("layer, bare", ["CPU, µs", "times a message", "µs a message", "in the stack, µs"])
    yield _rule(4)
    events = result.counters.events.values()
    published, handled = (sum(row[name] for row in events) / result.messages for name in ("published", "handled"))
    rows = sum(row["inserts"] + row["updates"] for row in result.counters.tables.values()) / result.messages
    sums = {layer: sum(result.layers_us(service)[layer] for service in result.profiles) for layer in Layer}
    # For each part of a floor: how often a message needs it, and what the stack spends on the same.
    uses: dict[tuple[str, str], tuple[float, str]] = {
        (ECHO, "target"): (1, f"{sums[Layer.HTTP_SERVER]:.0f} ({Layer.HTTP_SERVER})"),
        (HOP, "publisher"): (published, ""),
        (HOP, "consumer"): (handled, f"{sums[Layer.BUS] + sums[Layer.JSON]:.0f} ({Layer.BUS}; {Layer.JSON})"),
        (HOP, "nats"): (published, f"{result.cpu_us('nats'):.0f} (nats)"),
        (SMPP, "ESME"): (1, f"{sums[Layer.SMPP]:.0f} ({Layer.SMPP})"),
        (WEBHOOK, "client"): (1, f"{sums[Layer.HTTP_CLIENT]:.0f} ({Layer.HTTP_CLIENT})"),
        (INSERT, "client"): (rows, f"{sums[Layer.DATABASE]:.0f} ({Layer.DATABASE})"),
        (INSERT, "postgres"): (rows, f"{result.cpu_us('postgres'):.0f} (postgres)"),
    }
    for floor in result.floors:
        for part, us in floor.cpu_us.items():
            if use := uses.get((floor.name, part)):
                times, stack = use
                yield _row(f"{floor.name}: {part}", [f"{us:.1f}", f"{times:.1f}", f"{us * times:.0f}", stack])
    yield ""


def _postgres(result: Result) -> Iterator[str]:
    counters, messages = result.counters, result.messages
    roles = sorted(counters.backends.items(), key=lambda item: -item[1])
    shown = [f"{role} {us:.0f}" for role, s in roles if (us := s / messages * 1e6) >= _LEAST_ROLE_US]
    yield f"Postgres, CPU µs a message by role: {', '.join(shown)}."
    names = {
        "commits": "commits",
        "wal_fsyncs": "WAL fsyncs",
        "wal_records": "WAL records",
        "wal_bytes": "bytes of WAL",
    }
    totals = [f"{counters.totals[key] / messages:,.2f} {name}" for key, name in names.items() if key in counters.totals]
    yield f"A message is {', '.join(totals)}."
    yield ""
    yield _row("table, rows a message", ["inserts", "updates", "of them HOT", "deletes"])
    yield _rule(4)
    for name, row in sorted(counters.tables.items()):
        if row["inserts"] + row["updates"] + row["deletes"] >= _LEAST_ROWS * messages:
            hot = f"{row['hot'] / row['updates']:.0%}" if row["updates"] else ""
            yield _row(name, [*(f"{row[key] / messages:.2f}" for key in ("inserts", "updates")), hot,
                              f"{row['deletes'] / messages:.2f}"])  # fmt: skip
    yield ""
    yield from _statements(list(counters.statements.values()), messages)


def _statements(statements: Sequence[Statement], messages: int) -> Iterator[str]:
    costly = sorted(statements, key=lambda one: -one.exec_ms)[:_STATEMENTS]
    if not costly:
        return
    yield _row("statement", ["role", "µs a message", "ms a call", "rows a call", "WAL records a message"])
    yield _rule(5)
    for one in costly:
        if one.calls > 0 and one.exec_ms / messages * 1000 > 1:
            text = re.sub(r"[|`]", " ", one.text)[:_STATEMENT_LENGTH]
            yield _row(f"`{text}`", [
                one.role, f"{one.exec_ms / messages * 1000:.1f}", f"{one.exec_ms / one.calls:.2f}",
                f"{one.rows / one.calls:.0f}", f"{one.wal_records / messages:.1f}",
            ])  # fmt: skip
    yield ""


def _bus(result: Result) -> Iterator[str]:
    counters, messages = result.counters, result.messages
    stored = [
        f"{name} {row['messages'] / messages:.2f} ({row['bytes'] / messages:,.0f} bytes)"
        for name, row in counters.streams.items()
        if row["messages"] >= _LEAST_ROWS * messages
    ]
    nats = counters.nats
    yield (
        f"NATS, a message: stored {', '.join(stored)}; {nats['in_msgs'] / messages:.2f} protocol messages in, "
        f"{nats['out_msgs'] / messages:.2f} out ({nats['out_bytes'] / messages:,.0f} bytes)."
    )
    yield ""
    yield _row("events a message", ["published", "handled", "in a call"])
    yield _rule(3)
    for name, row in counters.events.items():
        a_call = row["handled"] / row["calls"] if row["calls"] else 0.0
        yield _row(name, [f"{row['published'] / messages:.2f}", f"{row['handled'] / messages:.2f}", f"{a_call:.0f}"])


def _row(name: str, cells: Sequence[str]) -> str:
    return f"| {name} | {' | '.join(cells)} |"


def _rule(columns: int) -> str:
    return "|" + "---|" * (columns + 1)
