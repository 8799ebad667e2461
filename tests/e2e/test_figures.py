"""What lists, figures, usage and ledger say of an account's messages is what was sent, to the message and the paisa."""

from collections import Counter
from typing import Any

from tests.e2e.client import SENDER, Account, at_once, new_number
from tests.e2e.waiting import eventually

# Paise a part, as the price book has them for the first ten thousand.
PRICES = {"transactional": 22, "service_implicit": 22, "otp": 28}
LONG = "".join(
    ["Dear {#str:name#}, your order {#str:order_id#} has been shipped. - E2E Stores ", "Thank you. " * 12]
).strip()
ABSENT, INACTIVE, DND = "919999900002", "919999900003", "919999900004"


def figures(account: Account, **query: object) -> dict[str, Any]:
    return account.client.get("/v1/analytics/delivery", **query)


def test_money_and_figures_are_those_of_the_messages(account: Account) -> None:
    account.template("LONG", LONG)
    account.template(
        "SERVED", "Dear {#str:name#}, your order {#str:order_id#} was served. - E2E Stores", category="service_implicit"
    )
    account.template("CODE", "{#numeric:code#} is your code. - E2E Stores", category="otp")
    before = account.balance()[0]
    sends: list[dict[str, Any]] = (
        [{"to": new_number()} for _ in range(6)]
        + [{"to": new_number(), "template_id": "LONG"} for _ in range(3)]
        + [{"to": new_number(), "template_id": "SERVED", "category": "service_implicit"} for _ in range(4)]
        + [
            {"to": new_number(), "template_id": "CODE", "category": "otp", "variables": {"code": "1234"}}
            for _ in range(5)
        ]
        + [{"to": ABSENT}, {"to": INACTIVE, "template_id": "LONG"}, {"to": DND}, {"to": DND}]
    )
    answers = at_once(len(sends), lambda place: account.accepted(**sends[place]), threads=8)
    parts = {answer["message_id"]: answer["credits_debited"] for answer in answers}
    category = {
        answer["message_id"]: send.get("category", "transactional") for answer, send in zip(answers, sends, strict=True)
    }
    error = {
        answer["message_id"]: {
            ABSENT: "ERR_HANDSET_UNREACHABLE",
            INACTIVE: "ERR_NUMBER_INACTIVE",
            DND: "ERR_DND_SUBSCRIBER",
        }.get(send["to"])
        for answer, send in zip(answers, sends, strict=True)
    }
    for message_id, code in error.items():
        told = account.client.reached(message_id, "failed" if code else "delivered")
        assert (told["error_code"], told["parts"], told["category"]) == (code, parts[message_id], category[message_id])
    assert max(parts.values()) == 2

    # Filtered on the way, and so not charged; all others are, by their parts.
    charged = {message_id: count for message_id, count in parts.items() if error[message_id] != "ERR_DND_SUBSCRIBER"}
    units: Counter[str] = Counter()
    for message_id, count in charged.items():
        units[category[message_id]] += count
    expected = {name: (count, count * PRICES[name]) for name, count in units.items()}

    def used() -> dict[str, tuple[int, float]]:
        lines = account.client.get("/v1/account/usage")["usage"]
        assert len({line["day"] for line in lines}) <= 1
        return {line["category"]: (line["units"], line["amount_paise"]) for line in lines if line["channel"] == "sms"}

    left = account.settled_balance()
    eventually(lambda: used() == expected, what=f"the usage {expected}")
    spent = sum(amount for _, amount in expected.values())
    assert left == before - spent
    movements = list(account.client.pages("/v1/account/ledger", "entries", limit=7))
    assert sum(entry["available_change_paise"] for entry in movements) == left
    assert len({entry["entry_id"] for entry in movements}) == len(movements)
    for message_id, count in parts.items():
        account.paid(message_id, count * PRICES[category[message_id]] if message_id in charged else 0)

    listed = list(account.client.pages("/v1/messages", "messages", limit=4))
    assert {each["message_id"] for each in listed} == parts.keys()
    assert [each["accepted_at"] for each in listed] == sorted((each["accepted_at"] for each in listed), reverse=True)
    failed = account.client.pages("/v1/messages", "messages", state="failed", limit=1)
    assert {each["message_id"] for each in failed} == {message_id for message_id, code in error.items() if code}
    by_code = account.client.pages("/v1/messages", "messages", error_code="ERR_DND_SUBSCRIBER")
    assert {each["message_id"] for each in by_code} == parts.keys() - charged.keys()

    report = figures(account)
    assert (report["messages"], report["states"]["delivered"], report["states"]["failed"]) == (22, 18, 4)
    assert report["delivery_rate"] == round(18 / 22, 4)
    assert report["errors"] == [
        {"error_code": "ERR_DND_SUBSCRIBER", "channel": "sms", "messages": 2},
        {"error_code": "ERR_HANDSET_UNREACHABLE", "channel": "sms", "messages": 1},
        {"error_code": "ERR_NUMBER_INACTIVE", "channel": "sms", "messages": 1},
    ]
    for group_by in ("day", "hour", "channel"):
        groups = figures(account, group_by=group_by)["groups"]
        assert sum(group["messages"] for group in groups) == 22
        assert sum(group["states"]["failed"] for group in groups) == 4
    latencies = sorted(
        told["latency_ms"] for told in map(account.client.message, parts) if told["latency_ms"] is not None
    )
    assert len(latencies) == 18
    assert report["latency_ms"]["p50"] == latencies[8]
    assert report["latency_ms"]["p99"] == latencies[-1]


def test_a_verdict_is_what_the_send_then_costs(account: Account) -> None:
    account.template("LONG", LONG)
    for template_id in ("SHIPPED", "LONG"):
        body: dict[str, Any] = {
            "to": new_number(),
            "sender": SENDER,
            "template_id": template_id,
            "variables": {"name": "Asha", "order_id": "ORD1"},
        }
        told = account.client.post("/v1/messages/validate", body)
        accepted = account.accepted(**body)
        assert (told["valid"], told["parts"]) == (True, accepted["credits_debited"])
        account.paid(accepted["message_id"], told["price_paise"])
