"""Rows as a Markdown table."""

from collections.abc import Iterable, Iterator

from tests.chaos.runner import Row
from tests.chaos.tally import LATE_S

_HEAD = (
    "| fault | messages | lost | doubled at the carrier | billed wrong | webhooks missing | submits again after s "
    "| recovered after s | verdict |\n|---|--:|--:|--:|--:|--:|--:|--:|---|"
)


_FOOT = (
    "Both times are counted from the moment the fault was healed or, where it heals by itself, began. Recovered is when "
    f"the last late message had its final webhook: one that came more than {LATE_S:g} s after its first request was due."
)


def table(rows: Iterable[Row]) -> str:
    return "\n".join([_HEAD, *map(line, rows), "", _FOOT])


def line(row: Row) -> str:
    counts = row.counts
    doubled = f"{counts.doubled}" + (f" (and {counts.otp_doubled} OTP)" if counts.otp_doubled else "")
    lost = f"{counts.lost}" + (f" ({counts.told} told so)" if counts.told else "")
    cells = (
        row.what,
        f"{counts.messages:,}",
        lost,
        doubled,
        f"{counts.billed_wrong}",
        f"{counts.webhooks_missing}",
        f"{counts.recovery.flow_s:.1f}",
        f"{counts.recovery.seconds:.1f}",
        "; ".join(row.problems) or "holds",
    )
    return f"| {' | '.join(cells)} |"


def details(row: Row) -> Iterator[str]:
    """What the table leaves out."""
    counts = row.counts
    yield (
        f"{row.fault}: accepted {counts.accepted:,} with {counts.repeats:,} repeats, submitted {counts.submitted:,}, "
        f"failed at the phone {counts.failed:,}, webhooks twice {counts.webhooks_twice:,}, late {counts.recovery.late:,}, "
        f"longest silence of submits {counts.submit_silence_s:.1f} s"
    )
    yield from (f"  PROBLEM: {problem}" for problem in row.problems)
