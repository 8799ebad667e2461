"""The rules of the registry, each refusal as one row."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from harkara_compliance import registrar
from harkara_contracts.commands import (
    AddUrl,
    RegisterEntity,
    RegisterSender,
    RegisterTemplate,
    RemoveUrl,
    SetSenderStatus,
    SetTemplateStatus,
    UpdateSender,
    UpdateTemplate,
)
from harkara_contracts.errors import ErrorCode, HarkaraError
from harkara_contracts.facts import EntityFact, SenderFact, TemplateFact, TemplateVariable
from harkara_contracts.subjects import Category, Channel
from harkara_dlt import chain_hash

NOW = datetime(2026, 3, 1, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
ENTITY = "1701158019811140068"
TELEMARKETER = "1702158019811140001"
TEMPLATE = "1007158019811140001"
BODY = "{#num:otp#} is your code for Harkara Stores."
COMMON: dict[str, Any] = {"command_id": "CMD1", "account_id": "ACC1"}


def entity(**changes: Any) -> EntityFact:
    return registrar.register_entity(None, register_entity(**changes), TELEMARKETER, NOW)


def register_entity(**changes: Any) -> RegisterEntity:
    return RegisterEntity(**COMMON | {"entity_id": ENTITY, "name": "Harkara Stores"} | changes)


def register_sender(**changes: Any) -> RegisterSender:
    asked = {"sender": "ABCDEF", "entity_id": ENTITY, "kind": "transactional", "auto_approve": True}
    return RegisterSender(**COMMON | asked | changes)


def sender(**changes: Any) -> SenderFact:
    return registrar.register_sender(None, entity(), register_sender(**changes), NOW)


def register_template(**changes: Any) -> RegisterTemplate:
    asked = {
        "template_id": "CODE",
        "dlt_template_id": TEMPLATE,
        "category": Category.OTP,
        "senders": ["ABCDEF"],
        "body": BODY,
        "auto_approve": True,
    }
    return RegisterTemplate(**COMMON | asked | changes)


def template(**changes: Any) -> TemplateFact:
    return registrar.register_template(None, None, register_template(**changes), NOW)


def update_template(**changes: Any) -> UpdateTemplate:
    return UpdateTemplate(**COMMON | {"template_id": "CODE"} | changes)


def sender_status(status: str, known: SenderFact | None) -> SenderFact:
    return registrar.set_sender_status(known, SetSenderStatus(**COMMON, sender="ABCDEF", status=status), LATER)


INVALID = ErrorCode.INVALID_REQUEST
REFUSALS: list[tuple[str, Callable[[], object], ErrorCode, str]] = [
    ("a short entity id", lambda: entity(entity_id="123"), INVALID, "10 to 24 digits"),
    ("an entity id of other digits", lambda: entity(entity_id="\u0967" * 12), INVALID, "10 to 24 digits"),
    ("an entity without a name", lambda: entity(name="  "), INVALID, "name"),
    ("a chain of letters", lambda: entity(telemarketer_chain=["TM1"]), INVALID, "telemarketer_chain"),
    ("a chain that repeats", lambda: entity(telemarketer_chain=[TELEMARKETER] * 2), INVALID, "twice"),
    ("a chain in a ring", lambda: entity(telemarketer_chain=[TELEMARKETER, ENTITY]), INVALID, "twice"),
    (
        "an endless chain",
        lambda: entity(telemarketer_chain=[str(int(TELEMARKETER) + n) for n in range(11)]),
        INVALID,
        "at most",
    ),
    ("a short header", lambda: sender(sender="ABC"), INVALID, "six letters"),
    ("digits for a service", lambda: sender(sender="512345"), INVALID, "promotional"),
    ("a header with the operator's prefix", lambda: sender(sender="VM-ABCDEF"), INVALID, "prefix"),
    ("an unknown kind", lambda: sender(kind="loud"), INVALID, "kind"),
    (
        "a sender of nobody",
        lambda: registrar.register_sender(None, None, register_sender(), NOW),
        INVALID,
        "POST /v1/entities",
    ),
    (
        "a sender of another kind",
        lambda: registrar.register_sender(sender(), entity(), register_sender(kind="otp"), LATER),
        ErrorCode.CONFLICT,
        "PATCH /v1/senders/ABCDEF",
    ),
    (
        "a change of no sender",
        lambda: registrar.update_sender(None, None, UpdateSender(**COMMON, sender="ABCDEF"), NOW),
        ErrorCode.NOT_FOUND,
        "POST /v1/senders",
    ),
    ("the status of no sender", lambda: sender_status("approved", None), ErrorCode.NOT_FOUND, "POST /v1/senders"),
    ("no status", lambda: sender_status("fine", sender()), INVALID, "pending, approved"),
    ("a way back to pending", lambda: sender_status("pending", sender()), ErrorCode.CONFLICT, "suspended"),
    ("a rejection of what is in use", lambda: sender_status("rejected", sender()), ErrorCode.CONFLICT, "approved"),
    ("a strange alias", lambda: template(template_id="my template"), INVALID, "template_id"),
    ("the sandbox's alias", lambda: template(template_id="SANDBOX_X"), INVALID, "SANDBOX_"),
    ("no DLT id", lambda: template(dlt_template_id=None), INVALID, "dlt_template_id"),
    ("a wrong DLT id", lambda: template(dlt_template_id="10071X"), INVALID, "dlt_template_id"),
    ("a body of nothing", lambda: template(body=" "), INVALID, "body"),
    ("an endless body", lambda: template(body="a" * 6000), INVALID, "at most"),
    ("an unknown tag", lambda: template(body="{#code#} is your code for Harkara"), INVALID, "not a known variable"),
    ("an open tag", lambda: template(body="{#num is your code for Harkara"), INVALID, "body"),
    ("a body without a variable", lambda: template(body="Hello from Harkara Stores"), INVALID, "variable"),
    ("too little fixed text", lambda: template(body="{#num#} code"), INVALID, "10 characters"),
    ("a wrong language", lambda: template(language="Hindi, please"), INVALID, "language"),
    ("a numeric header for OTP", lambda: template(senders=["512345"]), INVALID, "six letters"),
    (
        "names that do not fit",
        lambda: template(variables=[TemplateVariable(name="code", type="num")]),
        INVALID,
        "names a variable",
    ),
    (
        "a template that differs",
        lambda: registrar.register_template(
            template(), None, register_template(category=Category.TRANSACTIONAL), LATER
        ),
        ErrorCode.CONFLICT,
        "PATCH /v1/templates/CODE",
    ),
    (
        "a DLT template under a second name",
        lambda: registrar.register_template(None, template(), register_template(template_id="CODE2"), NOW),
        ErrorCode.CONFLICT,
        "as CODE",
    ),
    (
        "a change of no template",
        lambda: registrar.update_template(None, None, update_template(), NOW),
        ErrorCode.NOT_FOUND,
        "POST /v1/templates",
    ),
    (
        "a change to nonsense",
        lambda: registrar.update_template(template(), None, update_template(body="{#code#}"), LATER),
        INVALID,
        "known variable",
    ),
    (
        "the status of no template",
        lambda: registrar.set_template_status(
            None, SetTemplateStatus(**COMMON, template_id="CODE", status="approved"), NOW
        ),
        ErrorCode.NOT_FOUND,
        "POST /v1/templates",
    ),
    (
        "an unknown kind of link",
        lambda: registrar.add_url(None, AddUrl(**COMMON, kind="fax", value="1"), "URL1", NOW),
        INVALID,
        "url_prefix",
    ),
    (
        "a link that is none",
        lambda: registrar.add_url(None, AddUrl(**COMMON, kind="domain", value="not a domain"), "URL1", NOW),
        INVALID,
        "domain",
    ),
    (
        "the removal of nothing",
        lambda: registrar.remove_url(None, RemoveUrl(**COMMON, url_id="URL1"), NOW),
        ErrorCode.NOT_FOUND,
        "GET /v1/urls",
    ),
]


@pytest.mark.parametrize(("call", "code", "says"), [row[1:] for row in REFUSALS], ids=[row[0] for row in REFUSALS])
def test_what_is_refused_says_how_to_mend_it(call: Callable[[], object], code: ErrorCode, says: str) -> None:
    with pytest.raises(HarkaraError) as refusal:
        call()
    assert refusal.value.code is code
    assert says in refusal.value.message


def test_the_chain_is_the_entity_and_its_telemarketers() -> None:
    other = "1702158019811140002"
    assert entity().telemarketer_chain == [TELEMARKETER]
    assert entity().chain_hash == chain_hash([ENTITY, TELEMARKETER])
    assert entity(telemarketer_chain=[ENTITY, other]).chain_hash == chain_hash([ENTITY, other])
    assert registrar.register_entity(None, register_entity(), None, NOW).chain_hash == ""


def test_registering_an_entity_again_corrects_it_and_never_takes_its_chain_away() -> None:
    without = registrar.register_entity(None, register_entity(), None, NOW)
    other = "1702158019811140002"
    mended = registrar.register_entity(without, register_entity(telemarketer_chain=[other]), None, LATER)
    assert (mended.telemarketer_chain, mended.chain_hash) == ([other], chain_hash([ENTITY, other]))
    renamed = registrar.register_entity(mended, register_entity(name="Other"), TELEMARKETER, LATER)
    assert (renamed.name, renamed.chain_hash) == ("Other", mended.chain_hash)
    assert without.version < mended.version < renamed.version


def test_a_repeat_is_what_is_known() -> None:
    known_entity, known_sender, known_template = entity(), sender(), template()
    assert registrar.register_entity(known_entity, register_entity(), TELEMARKETER, LATER) is known_entity
    assert registrar.register_sender(known_sender, known_entity, register_sender(), LATER) is known_sender
    assert registrar.register_template(known_template, known_template, register_template(), LATER) is known_template
    same = update_template(body=BODY, category=Category.OTP)
    assert registrar.update_template(known_template, None, same, LATER) is known_template
    assert sender_status("approved", known_sender) is known_sender
    add = AddUrl(**COMMON, kind="domain", value=" hkr.in ")
    url = registrar.add_url(None, add, "URL1", NOW)
    assert url.value == "hkr.in"
    assert registrar.add_url(url, add, "URL2", LATER) is url
    gone = registrar.remove_url(url, RemoveUrl(**COMMON, url_id="URL1"), LATER)
    assert gone.deleted
    assert gone.version > url.version
    assert registrar.remove_url(gone, RemoveUrl(**COMMON, url_id="URL1"), LATER) is gone


def test_versions_grow_even_when_the_clock_does_not() -> None:
    suspended = sender_status("suspended", sender())
    again = registrar.set_sender_status(suspended, SetSenderStatus(**COMMON, sender="ABCDEF", status="approved"), NOW)
    assert again.version > suspended.version > sender().version


def test_a_new_body_starts_the_approval_anew() -> None:
    known = template()
    body = "{#num:otp#} is the code for Harkara Stores."
    assert registrar.update_template(known, None, update_template(body=body), LATER).status == "pending"
    assert (
        registrar.update_template(known, None, update_template(body=body, auto_approve=True), LATER).status
        == "approved"
    )
    assert registrar.update_template(known, None, update_template(senders=[]), LATER).status == "approved"
    assert registrar.update_template(known, None, update_template(language="hi"), LATER).status == "approved"


def test_a_suspension_is_not_left_by_a_change() -> None:
    known = template().model_copy(update={"status": "suspended"})
    changed = registrar.update_template(
        known, None, update_template(body="{#num:otp#} is the code for Harkara.", auto_approve=True), LATER
    )
    assert changed.status == "suspended"


def test_a_change_of_entity_starts_a_sender_s_approval_anew() -> None:
    other = entity(entity_id="1701158019811140069")
    change = UpdateSender(**COMMON, sender="ABCDEF", entity_id=other.entity_id)
    assert registrar.update_sender(sender(), other, change, LATER).status == "pending"


def test_variables_are_listed_in_the_order_of_the_body() -> None:
    made = template(
        body="Dear {#str#}, {#num:otp#} is your code for {#var#}.",
        variables=[TemplateVariable(name="name", type="str"), TemplateVariable(name="shop", type="alphanumeric")],
    )
    assert [(v.name, v.type) for v in made.variables] == [
        ("name", "str"),
        ("otp", "numeric"),
        ("shop", "alphanumeric"),
    ]
    renamed = registrar.update_template(made, None, update_template(language="hi"), LATER)
    assert renamed.variables == made.variables


def test_a_dlt_id_may_be_the_name() -> None:
    assert template(template_id=TEMPLATE, dlt_template_id=None).dlt_template_id == TEMPLATE


def test_templates_of_other_channels_follow_no_dlt_rules() -> None:
    made = template(channel=Channel.EMAIL, dlt_template_id=None, body="Hello", senders=["care@hkr.in"])
    assert made.dlt_template_id is None
