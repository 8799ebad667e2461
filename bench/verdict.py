"""What must hold of a run: nothing lost, nothing sent twice, everything charged once. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from bench.account import Money
from bench.figures import Figures


@dataclass(frozen=True)
class Outcome:
    """All phases of a run together. `dead` is None where it is not known; `killed` a process that was."""

    phases: Sequence[Figures]
    money: Money
    topup_paise: int
    dead: Sequence[str] | None
    killed: str | None


def problems_of(outcome: Outcome) -> list[str]:
    """What is wrong, in sentences; empty when all is well.

    Where a process was killed, requests without an answer and repeated webhooks are no fault: the first are the client's to
    repeat, the second its to recognise. A message that a carrier got twice is one, killed or not.
    """
    counts = [figures.counts for figures in outcome.phases]

    def total(name: str) -> int:
        return sum(getattr(count, name) for count in counts)

    wrong = {
        "accepted messages never reached the carrier": total("accepted_not_submitted"),
        "accepted messages never got their final webhook": total("accepted_not_reported"),
        "messages reached the carrier twice": total("submitted_twice"),
        "final webhooks tell of a failure": total("webhooks") - total("delivered"),
        "webhooks have a wrong signature": total("bad_signatures"),
        "webhooks tell of messages that were not sent": total("strangers"),
    }
    if outcome.dead is not None:
        wrong["events are dead"] = len(outcome.dead)
    if outcome.killed is None:
        wrong["requests were refused"] = total("refused")
        wrong["requests were not answered"] = total("unanswered")
        wrong["webhooks came twice"] = total("webhooks_twice")
    problems = [f"{count} {what}" for what, count in wrong.items() if count]
    return problems + money_problems(outcome.money, outcome.topup_paise, total("submitted"))


def money_problems(money: Money, topup_paise: int, submitted: int) -> list[str]:
    """What is wrong with what was charged for so many submitted messages of one unit each."""
    problems = []
    if money.units != submitted:
        problems.append(f"{money.units} units are charged for {submitted} messages that reached the carrier")
    if money.held_paise:
        problems.append(f"{money.held_paise} paise are still held")
    missing = topup_paise - money.available_paise - money.held_paise - money.charged_paise
    if abs(missing) > 0.001:  # noqa: PLR2004  # less than a milli-paisa: the sum of floats
        problems.append(f"the balance and the usage report differ by {missing} paise")
    return problems
