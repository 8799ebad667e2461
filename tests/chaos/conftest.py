"""What the faults of the short form share: one stack, the load generator and the sink."""

from collections.abc import Iterator

import pytest
from bench.stack import Stack, described
from tests.chaos.runner import Tools, tools
from tests.e2e.stack import started_stack


@pytest.fixture(scope="module")
def common_stack() -> Iterator[Stack]:
    with started_stack() as started:
        yield described(started.home)


@pytest.fixture(scope="module")
def load_and_sink() -> Iterator[Tools]:
    with tools() as running:
        yield running
