"""The API's description is whole: whoever generates a client from it, or tries its examples, is not let down."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from pydantic import BaseModel

from harkara_ingress.http.examples import REQUESTS, answer_example, request_example

EVERY_ANSWER_HAS = {"X-Request-Id", "X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"}


@pytest.fixture
async def description(edge: Any) -> Any:
    async with edge.session.get(f"{edge.base_url}/openapi.json") as response:
        return await response.json()


def operations(description: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def problems(value: Any, schema: Any, description: Any) -> list[str]:
    known = {**schema, "components": description["components"]}
    validator = Draft202012Validator(known, format_checker=Draft202012Validator.FORMAT_CHECKER)
    return [f"{list(error.path)}: {error.message}" for error in validator.iter_errors(value)]


async def test_every_body_has_an_example_that_is_true_to_its_schema(description: Any) -> None:
    wrong: list[str] = []
    for name, operation in operations(description):
        contents = [("request", operation["requestBody"])] if "requestBody" in operation else []
        contents += list(operation["responses"].items())
        for what, holder in contents:
            for content in holder.get("content", {}).values():
                assert "example" in content, (name, what)
                found = problems(content["example"], content["schema"], description)
                wrong += [f"{name} {what} {problem}" for problem in found]
    assert wrong == []


async def test_every_operation_says_all_that_clients_need(description: Any) -> None:
    ids: list[str] = []
    tags = {tag["name"] for tag in description["tags"]}
    for name, operation in operations(description):
        ids.append(operation["operationId"])
        assert re.fullmatch(r"[a-z][a-z_]*", operation["operationId"]), name
        assert len(operation["tags"]) == 1, name
        assert set(operation["tags"]) <= tags, f"{name}: describe the tag in TAGS"
        assert operation["description"] or operation["summary"], name
        for status, response in operation["responses"].items():
            assert response["headers"].keys() >= EVERY_ANSWER_HAS, (name, status)
            is_refusal = status[0] in "45"
            if is_refusal:
                assert response["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/ErrorBody"}
        assert any(status[0] == "4" for status in operation["responses"]), name
        assert "Retry-After" in operation["responses"].get("429", operation["responses"].get("4XX"))["headers"], name
    assert len(ids) == len(set(ids))
    assert description["security"] == [{"api_key": []}]
    assert all(header["description"] for header in description["components"]["headers"].values())


async def test_no_example_is_for_a_request_that_is_gone(description: Any) -> None:
    assert REQUESTS.keys() <= description["components"]["schemas"].keys()


class Inner(BaseModel):
    to: str
    note: str | None


class Outer(BaseModel):
    inner: Inner
    others: list[Inner]
    count: int = 3
    also: Inner | None = None


def test_answers_show_all_fields_and_requests_what_they_need() -> None:
    schemas = Outer.model_json_schema(ref_template="#/components/schemas/{model}")
    components = {**schemas.pop("$defs"), "Outer": schemas}
    inner = {"to": "919876543210", "note": None}
    reference = {"$ref": "#/components/schemas/Outer"}
    assert answer_example(reference, components) == {"inner": inner, "others": [inner], "count": 1, "also": inner}
    assert request_example(reference, components) == {"inner": inner, "others": [inner]}
