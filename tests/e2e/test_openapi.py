"""Every operation of the API's description, called with generated data: right, wrong and odd.

Whatever comes, the answer is one that the description foretells, and never a fault of ours. The data is the same in every
run; each operation has an account of its own, since it may well lock itself out.
"""

import os
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis import GenerationMode
from schemathesis.checks import (
    content_type_conformance,
    not_a_server_error,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from tests.e2e.client import Client, furnish, open_account
from tests.e2e.stack import Stack

EXAMPLES = int(os.environ.get("HARKARA_OPENAPI_EXAMPLES", "20"))
"""For each operation, of right data and of wrong; 200 take about five minutes."""

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
]
ENDLESS = {"GET /v1/events"}
"""Its answer goes on for as long as the client listens; its tests are its own."""


@pytest.fixture(scope="module")
def schema(stack: Stack) -> Any:
    return schemathesis.openapi.from_url(f"{stack.base_url}/openapi.json")


def keys(operator: Client) -> dict[bool, str]:
    """Return a key of a furnished account, and the operator's for what is the operator's."""
    account = open_account(operator)
    furnish(account)
    assert account.client.key is not None
    assert operator.key is not None
    return {False: account.client.key, True: operator.key}


WITHOUT_CARRIER = {"/v1/whatsapp/send", "/v1/rcs/send", "/v1/voice/send", "/v1/email/send"}
"""Channels that are checked already and carried later."""


def test_examples_can_be_sent_as_they_are(schema: Any, stack: Stack) -> None:
    """By the account that `harkara up` furnishes, since they name its sender and its templates."""
    demo = Client(stack.base_url, stack.demo["api_key"])
    statuses: dict[str, int] = {}
    for found in schema.get_all_operations():
        operation = found.ok()
        example = operation.definition.raw.get("requestBody", {}).get("content", {}).get("application/json", {})
        if operation.method == "post" and set(operation.definition.raw["tags"]) & {"sending", "bulk"}:
            statuses[operation.path] = demo.call("POST", operation.path, example["example"]).status
    assert statuses.pop("/v1/messages/validate") == 200
    for path in WITHOUT_CARRIER:
        assert statuses.pop(path) in {400, 422}
    assert statuses
    assert set(statuses.values()) == {202}, statuses


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["right", "wrong"])
def test_every_answer_is_foretold(schema: Any, operator: Client, mode: GenerationMode) -> None:
    called: set[str] = set()
    failures: list[str] = []
    with requests.Session() as session:
        for found in schema.get_all_operations():
            operation = found.ok()
            name = f"{operation.method.upper()} {operation.path}"
            if name in ENDLESS:
                continue
            key = keys(operator)["(operator)" in operation.definition.raw.get("description", "")]
            try:
                _call(operation, mode, session, key, called)
            except Exception as failure:  # noqa: BLE001  # all operations are tried before the first is told
                failures.append(f"{name}: {failure!r}")
    assert failures == []
    assert called


def _call(operation: Any, mode: GenerationMode, session: requests.Session, key: str, called: set[str]) -> None:
    if mode is GenerationMode.NEGATIVE and not (operation.body or operation.query or operation.path_parameters):
        return

    @seed(0)
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def calls(case: Any) -> None:
        called.add(operation.label)
        headers = {"Authorization": f"Bearer {key}"}
        case.headers = {name: value for name, value in case.headers.items() if name.lower() != "authorization"}
        case.call_and_validate(session=session, headers=headers, checks=CHECKS, timeout=20)

    calls()
