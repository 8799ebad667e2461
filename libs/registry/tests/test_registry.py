from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harkara_contracts.facts import SenderFact, TemplateFact, TemplateVariable, UrlFact
from harkara_contracts.subjects import Category, Channel
from harkara_dlt import TemplateError
from harkara_registry import Registry, Status, declare_variables, earliest_departure

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def _sender(version: int, status: str = "approved", *, deleted: bool = False) -> SenderFact:
    return SenderFact(
        version=version,
        deleted=deleted,
        account_id="A",
        sender="ABCDEF",
        entity_id="1701158019811140068",
        kind="transactional",
        status=status,
        created_at=NOW,
    )


def _template(version: int, dlt_id: str, *, deleted: bool = False) -> TemplateFact:
    return TemplateFact(
        version=version,
        deleted=deleted,
        account_id="A",
        template_id="T1",
        channel=Channel.SMS,
        dlt_template_id=dlt_id,
        category=Category.OTP,
        senders=[],
        body="Your code is {#num:otp#}",
        status="approved",
        created_at=NOW,
    )


@given(st.permutations([_sender(1), _sender(2, "suspended"), _sender(3, deleted=True), _sender(4, "pending")]))
def test_the_newest_version_wins_in_any_order(facts: list[SenderFact]) -> None:
    registry = Registry()
    for fact in facts:
        registry.apply(fact)
    known = registry.sender("A", "ABCDEF")
    assert known is not None
    assert known.version == 4


def test_a_conclusion_is_drawn_anew_when_something_of_the_account_changed() -> None:
    registry = Registry()
    registry.apply(_sender(1))

    def status() -> str:
        known = registry.sender("A", "ABCDEF")
        if known is None:
            raise LookupError
        return known.status

    def remembered() -> str:
        return registry.remembered("A", "status", status)

    assert remembered() == "approved"
    registry.apply(_sender(3, "suspended"))
    assert remembered() == "suspended"
    registry.apply(_sender(2))
    assert remembered() == "suspended"
    registry.apply(_sender(4, deleted=True))
    with pytest.raises(LookupError):
        remembered()
    registry.apply(_sender(5))
    assert remembered() == "approved"


def test_a_tombstone_outlives_late_news() -> None:
    registry = Registry()
    registry.apply(_sender(3, deleted=True))
    registry.apply(_sender(2))
    assert registry.sender("A", "ABCDEF") is None
    assert registry.senders("A") == []


def test_accounts_do_not_see_each_other() -> None:
    registry = Registry()
    registry.apply(_sender(1))
    registry.apply(_template(1, "1007158000000000001"))
    assert registry.sender("B", "ABCDEF") is None
    assert registry.template("B", "T1") is None
    assert registry.template("B", "1007158000000000001") is None


def test_a_dlt_id_follows_its_template() -> None:
    registry = Registry()
    registry.apply(_template(1, "1007158000000000001"))
    registry.apply(_template(2, "1007158000000000002"))
    assert registry.template("A", "1007158000000000001") is None
    assert registry.template("A", "1007158000000000002") is not None
    registry.apply(_template(3, "1007158000000000002", deleted=True))
    assert registry.template("A", "1007158000000000002") is None
    assert registry.templates("A") == []


def test_the_whitelist_follows_its_entries() -> None:
    registry = Registry()
    before = registry.whitelist("A")
    registry.apply(UrlFact(version=1, account_id="A", url_id="U1", kind="domain", value="hkr.in"))
    assert registry.whitelist("A") is not before
    assert registry.whitelist("A") is registry.whitelist("A")
    assert [url.value for url in registry.urls("A")] == ["hkr.in"]


@pytest.mark.parametrize(
    ("body", "declared", "says"),
    [
        ("Code {#num:a#} {#str#}", [("a", "num"), ("b", "str"), ("c", "str")], "lists 3"),
        ("Code {#num:a#} {#str#}", [("x", "num"), ("b", "str")], "names a variable"),
        ("Code {#num#}", [("a", "date")], "{#numeric#}"),
        ("Code {#num#}", [("a", "colour")], "not known"),
        ("Code {#num#}", [("9", "num")], "name"),
        ("Code {#colour#}", [], "known variable"),
    ],
)
def test_what_is_declared_must_fit_the_body(body: str, declared: list[tuple[str, str]], says: str) -> None:
    variables = [TemplateVariable(name=name, type=kind) for name, kind in declared]
    with pytest.raises(TemplateError, match=says):
        declare_variables(body, variables)


IST_9_59_59 = datetime(2026, 3, 1, 4, 29, 59, tzinfo=UTC)
IST_10 = datetime(2026, 3, 1, 4, 30, tzinfo=UTC)
IST_21 = datetime(2026, 3, 1, 15, 30, tzinfo=UTC)
DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)


@pytest.mark.parametrize(
    ("category", "send_at", "now", "departure"),
    [
        (Category.OTP, None, IST_21, IST_21),
        (Category.TRANSACTIONAL, IST_21 + DAY, IST_10, IST_21 + DAY),
        (Category.TRANSACTIONAL, IST_10, IST_21, IST_21),
        (Category.PROMOTIONAL, None, IST_9_59_59, IST_10),
        (Category.PROMOTIONAL, None, IST_10, IST_10),
        (Category.PROMOTIONAL, None, IST_21 - SECOND, IST_21 - SECOND),
        (Category.PROMOTIONAL, None, IST_21, IST_10 + DAY),
        (Category.SERVICE_EXPLICIT, IST_21, IST_10, IST_10 + DAY),
        (Category.SERVICE_IMPLICIT, None, IST_21, IST_21),
    ],
)
def test_departure(category: Category, send_at: datetime | None, now: datetime, departure: datetime) -> None:
    assert earliest_departure(category, send_at, now) == departure


def test_the_states_of_approval() -> None:
    moves = {(a.value, b.value) for a in Status for b in Status if a.may_become(b)}
    assert moves == {
        ("pending", "approved"),
        ("pending", "rejected"),
        ("pending", "suspended"),
        ("approved", "suspended"),
        ("rejected", "approved"),
        ("suspended", "approved"),
    }
