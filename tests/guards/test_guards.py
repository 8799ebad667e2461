"""The table of guards tells the truth of the code as it is; whether tests miss them is what `make guards` tries."""

import ast
from pathlib import Path

import pytest
from tests.guards.table import GUARDS, Guard

REPOSITORY = Path(__file__).parents[2]
TRAPS = range(1, 19)


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.trap)
def test_a_guard_stands_where_the_table_says(guard: Guard) -> None:
    source = (REPOSITORY / guard.file).read_text()
    assert source.count(guard.text) == 1
    ast.parse(source.replace(guard.text, guard.without))


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.trap)
def test_a_guards_tests_are_there(guard: Guard) -> None:
    for test in guard.tests:
        file, _, name = test.partition("::")
        assert f"def {name}(" in (REPOSITORY / file).read_text()


def test_every_trap_has_a_guard() -> None:
    assert {guard.number for guard in GUARDS} - {0} == set(TRAPS)
