"""What a fault is: a name, what is done to a stack under load, and the bounds that must hold afterwards."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from bench.stack import Stack
from tests.chaos.scene import Scene

Scenario = Callable[[Scene], None]
"""Runs beside the load, and returns when what it did is healed."""


@dataclass(frozen=True, kw_only=True)
class Policy:
    """The bounds of one fault. What is not named is allowed nothing.

    - `doubled`: messages that reached the carrier more than once; OTPs are not among them
    - `otp_may_double`: an OTP of unknown fate is sent again, since a second copy does no harm: two copies at most
    - `unknown`: messages of which it was never learnt whether the carrier took them
    - `may_fail`: messages may end as failed or expired without reaching the carrier, and are not lost if told so
    - `patience_s`: from the end of load and scenario until all is settled
    """

    lost: int = 0
    doubled: int = 0
    otp_may_double: bool = False
    unknown: int = 0
    billed_wrong: int = 0
    webhooks_missing: int = 0
    dead: int = 0
    may_fail: bool = False
    patience_s: float = 90.0


@dataclass(frozen=True, kw_only=True)
class Fault:
    """`what` is a line for people. `stack` gives a stack of the fault's own, None means the common one.

    `load_s`: the load lasts at least so long, at its rate, where the messages that were asked for are over sooner.
    `validity_s`: how long the messages are worth trying; one without a receipt ends with it, and so the run can end too.
    `is_short` runs with every `make test` too; `is_random` may be picked by the soak, which needs the common stack.
    """

    name: str
    what: str
    scenario: Scenario
    policy: Policy = Policy()
    stack: Callable[[], AbstractContextManager[Stack]] | None = None
    load_s: float = 0.0
    validity_s: int | None = None
    is_short: bool = False
    is_random: bool = True
