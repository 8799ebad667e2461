"""Every contract is checked in, and follows its predecessor without breaking anybody."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harkara_contracts.catalogue import BY_TYPE
from harkara_contracts.schemas import breaking_changes, schema_of

Schema = dict[str, Any]

SCHEMAS = Path(__file__).parents[1] / "schemas"


@pytest.mark.parametrize("type_name", sorted(BY_TYPE))
def test_the_checked_in_schema_is_the_running_one(type_name: str) -> None:
    checked_in = json.loads((SCHEMAS / f"{type_name}.json").read_text())
    running = schema_of(BY_TYPE[type_name])
    assert breaking_changes(checked_in, running) == [], "a breaking change needs a new major version"
    assert checked_in == running, "the contract grew: `make docs` writes its schema anew"


def test_no_schema_is_left_of_an_event_that_is_gone() -> None:
    assert {file.stem for file in SCHEMAS.glob("*.json")} == set(BY_TYPE)


def _accepted() -> Schema:
    return schema_of(BY_TYPE["message.accepted.v1"])


def _remove_field(schema: Schema) -> None:
    del schema["properties"]["to"]


def _make_compulsory(schema: Schema) -> None:
    schema["required"].append("correlation_id")


def _make_optional(schema: Schema) -> None:
    schema["required"].remove("to")


def _narrow_type(schema: Schema) -> None:
    schema["properties"]["to"]["type"] = "integer"


def _no_longer_null(schema: Schema) -> None:
    schema["properties"]["correlation_id"] = {"type": "string"}


def _lose_a_value(schema: Schema) -> None:
    schema["$defs"]["Channel"]["enum"].remove("sms")


def _deep_in_the_content(schema: Schema) -> None:
    del schema["$defs"]["Content"]["properties"]["template_id"]


def _inside_an_alternative(schema: Schema) -> None:
    del schema["$defs"]["Cascade"]["properties"]["mode"]


def _shorten(schema: Schema) -> None:
    schema["properties"]["to"]["maxLength"] = 5


@pytest.mark.parametrize(
    "change",
    [
        _remove_field, _make_compulsory, _make_optional, _narrow_type, _no_longer_null, _lose_a_value,
        _deep_in_the_content, _inside_an_alternative, _shorten,
    ],
)  # fmt: skip
def test_a_breaking_change_is_told(change: Callable[[Schema], None]) -> None:
    old, new = _accepted(), _accepted()
    change(new)
    assert breaking_changes(old, new)


def test_a_new_optional_field_and_a_new_value_break_nobody() -> None:
    old = _accepted()
    new = copy.deepcopy(old)
    new["properties"]["colour"] = {"type": "string", "default": "blue"}
    new["$defs"]["Channel"]["enum"].append("pigeon")
    assert breaking_changes(old, new) == []
