"""Carriers that misbehave: both simulated ones at once, so that there is no way around.

What the rule never to send twice costs is bounded here: of a message that was written and never answered nobody knows
whether the carrier took it, so unless its receipt tells, it ends with its validity. An OTP is sent once more.
"""

from tests.chaos.fault import Fault, Policy, Scenario
from tests.chaos.scene import Scene

_BREAK_AT = 0.3
_BREAK_S, _SHORT_BREAK_S, _SHORT_LOAD_S = 10.0, 2.0, 5.0
_DROPS = 3
_VALIDITY_S = 60
"""Longer than it takes to leave a carrier that hangs."""
_ENDS_WITHIN_S = 150.0
_TWO_WINDOWS = 200
"""What both carriers' connections may have written and unanswered at one moment."""


def misbehave(**settings: object) -> Scenario:
    """The carriers do so for a while in the middle of the load."""

    def scenario(scene: Scene) -> None:
        scene.wait_until(_BREAK_AT)
        scene.begun()
        scene.behave(**settings)
        scene.wait(_SHORT_BREAK_S if scene.load_s < _SHORT_LOAD_S else _BREAK_S)
        scene.restore()
        scene.healed()

    return scenario


def drop_connections(scene: Scene) -> None:
    scene.begun()
    for number in range(_DROPS):
        scene.wait_until(_BREAK_AT + 0.2 * number)
        scene.phones.drop()
    scene.healed()


FAULTS = (
    Fault(
        name="carrier-drops",
        what=f"carriers drop all connections, {_DROPS} times",
        scenario=drop_connections,
        policy=Policy(unknown=_TWO_WINDOWS, otp_may_double=True, may_fail=True, patience_s=_ENDS_WITHIN_S),
        validity_s=_VALIDITY_S,
        is_random=False,
    ),
    Fault(
        name="carrier-hangs",
        what=f"carriers take everything and answer nothing for {_BREAK_S:g} s",
        scenario=misbehave(hangs=True),
        policy=Policy(unknown=_TWO_WINDOWS, otp_may_double=True, may_fail=True, patience_s=_ENDS_WITHIN_S),
        validity_s=_VALIDITY_S,
        is_random=False,
    ),
    Fault(
        name="carrier-throttles",
        what="carriers throttle 30 % of what is submitted",
        scenario=misbehave(throttle_fraction=0.3),
        is_short=True,
    ),
    Fault(
        name="carrier-late",
        what="carriers answer after 5 s",
        scenario=misbehave(response_delay_s=5.0),
    ),
    Fault(
        name="carrier-receipts-first",
        what="receipts come before the responses to their messages",
        scenario=misbehave(receipt_first=True),
        is_short=True,
    ),
    Fault(
        name="carrier-receipts-twice",
        what="every receipt comes twice",
        scenario=misbehave(receipt_twice=1.0),
    ),
    Fault(
        name="carrier-receipts-never",
        what="half of the receipts never come: those messages end with their validity",
        scenario=misbehave(receipt_loss=0.5),
        policy=Policy(patience_s=_ENDS_WITHIN_S),
        validity_s=_VALIDITY_S,
        is_random=False,
    ),
)
