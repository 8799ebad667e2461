"""The short form: the most telling faults, each under a few hundred messages. `make chaos` runs all of them at length.

That each process alone may be killed is shown end to end (tests/e2e/test_crashes.py).
"""

from contextlib import nullcontext

import pytest
from bench.stack import Stack
from tests.chaos.fault import Fault
from tests.chaos.registry import FAULTS
from tests.chaos.runner import Size, Tools, run_fault

SIZE = Size(messages=400, rate=200.0)
SHORT = [fault for fault in FAULTS if fault.is_short]


@pytest.mark.parametrize("fault", SHORT, ids=lambda fault: fault.name)
def test_whatever_breaks_every_message_is_sent_billed_and_told_once(
    fault: Fault, common_stack: Stack, load_and_sink: Tools
) -> None:
    with fault.stack() if fault.stack else nullcontext(common_stack) as stack:
        row = run_fault(fault, stack, load_and_sink, SIZE)
    assert row.problems == [], row
    assert row.counts.accepted == SIZE.messages
