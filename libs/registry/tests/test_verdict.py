"""Every rule of the verdict as one row: what is asked, and what is answered."""

from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest

from harkara_contracts.errors import ErrorCode
from harkara_contracts.events import Content
from harkara_contracts.facts import EntityFact, SenderFact, TemplateFact, TemplateVariable, UrlFact
from harkara_contracts.subjects import Category, Channel
from harkara_registry import MAX_SMS_PARTS, Refused, Registry, RenderedSms, declare_variables, judge, judge_sms

ACCOUNT = "ACC1"
ENTITY = "1701158019811140068"
NOW = datetime(2026, 3, 1, tzinfo=UTC)

SHIPPED = "Dear {#str:name#}, your order {#alphanumeric:order#} has shipped. Track it at {#url:link#} - Harkara Stores"
CODE = "{#num:otp#} is your code for Harkara Stores. Do not share it."
SALE = "Big sale at Harkara Stores: {#var:offer#} for you."
CALL = "Call us about your order {#numeric:order#} at Harkara Stores: {#var:contact#}"
LONG = "Harkara Stores: " + "{#var:text#}" * 80


def registry() -> Registry:
    held = Registry()
    held.apply(_entity(ENTITY, "chain"))
    held.apply(_entity("1701158019811140069", ""))
    for sender, kind, status in (
        ("ABCDEF", "transactional", "approved"),
        ("PENDNG", "transactional", "pending"),
        ("SUSPND", "transactional", "suspended"),
        ("REJCTD", "transactional", "rejected"),
        ("PROMOS", "promotional", "approved"),
        ("512345", "promotional", "approved"),
        ("ORPHAN", "transactional", "approved"),
        ("CHAINL", "transactional", "approved"),
    ):
        entity = {"ORPHAN": "1701158019811140000", "CHAINL": "1701158019811140069"}.get(sender, ENTITY)
        held.apply(_sender(sender, entity, kind, status))
    for number, (name, category, body, status) in enumerate(
        (
            ("SHIPPED", Category.TRANSACTIONAL, SHIPPED, "approved"),
            ("CODE", Category.OTP, CODE, "approved"),
            ("BANKCODE", Category.SERVICE_IMPLICIT, CODE, "approved"),
            ("SALE", Category.PROMOTIONAL, SALE, "approved"),
            ("EXPLICIT", Category.SERVICE_EXPLICIT, SALE, "approved"),
            ("CALL", Category.TRANSACTIONAL, CALL, "approved"),
            ("LONG", Category.TRANSACTIONAL, LONG, "approved"),
            ("PENDING", Category.TRANSACTIONAL, SHIPPED, "pending"),
            ("REJECTED", Category.TRANSACTIONAL, SHIPPED, "rejected"),
            ("SUSPENDED", Category.TRANSACTIONAL, SHIPPED, "suspended"),
        )
    ):
        held.apply(_template(name, number, category, body, status))
    held.apply(_template("OTHERHDR", 90, Category.TRANSACTIONAL, SHIPPED, "approved", senders=["QWERTY"]))
    held.apply(_template("MAIL", 91, Category.TRANSACTIONAL, SHIPPED, "approved", channel=Channel.EMAIL))
    held.apply(_template("BROKEN", 92, Category.TRANSACTIONAL, "A {#nothing#} here", "approved"))
    for number, (kind, value) in enumerate((("domain", "hkr.in"), ("phone", "18001234567"), ("email", "care@hkr.in"))):
        held.apply(UrlFact(version=1, account_id=ACCOUNT, url_id=f"URL{number}", kind=kind, value=value))
    return held


def _entity(entity_id: str, chain_hash: str) -> EntityFact:
    return EntityFact(
        version=1, account_id=ACCOUNT, entity_id=entity_id, name="x", telemarketer_chain=[], chain_hash=chain_hash
    )


def _sender(sender: str, entity_id: str, kind: str, status: str) -> SenderFact:
    return SenderFact(
        version=1,
        account_id=ACCOUNT,
        sender=sender,
        entity_id=entity_id,
        kind=kind,
        status=status,
        reason="complaints" if status == "suspended" else None,
        created_at=NOW,
    )


def _template(
    name: str,
    number: int,
    category: Category,
    body: str,
    status: str,
    senders: list[str] | None = None,
    channel: Channel = Channel.SMS,
) -> TemplateFact:
    return TemplateFact(
        version=1,
        account_id=ACCOUNT,
        template_id=name,
        channel=channel,
        dlt_template_id=str(1007158000000000000 + number),
        category=category,
        senders=senders or [],
        body=body,
        status=status,
        created_at=NOW,
    )


ORDER = {"name": "Asha", "order": "AB12345", "link": "https://hkr.in/t/8812"}
SHIPPED_TEXT = "Dear Asha, your order AB12345 has shipped. Track it at https://hkr.in/t/8812 - Harkara Stores"


@dataclass(frozen=True)
class Case:
    name: str
    code: ErrorCode | None = None
    says: str = ""
    text: str | None = None
    sender: str | None = "ABCDEF"
    template: str | None = "SHIPPED"
    variables: dict[str, str] = field(default_factory=lambda: dict(ORDER))
    message: str | None = None
    unicode: bool | None = None
    category: Category = Category.TRANSACTIONAL
    test_mode: bool = False


NONE: dict[str, str] = {}
OTP = {"otp": "123456"}
SALE_OFFER = {"offer": "50 percent off"}
CASES = [
    Case("variables are filled in", text=SHIPPED_TEXT),
    Case("a template is known by its DLT id too", template="1007158000000000000", text=SHIPPED_TEXT),
    Case("a literal text that matches", variables=NONE, message=SHIPPED_TEXT, text=SHIPPED_TEXT),
    Case(
        "both that agree, white space apart",
        message=SHIPPED_TEXT.replace(". ", ".\n"),
        text=SHIPPED_TEXT.replace(". ", ".\n"),
    ),
    # the sender
    Case("no sender", ErrorCode.SENDER_NOT_REGISTERED, "needs `sender`", sender=None),
    Case("an unknown sender", ErrorCode.SENDER_NOT_REGISTERED, "POST /v1/senders", sender="NOBODY"),
    Case("another case of letters", ErrorCode.SENDER_NOT_REGISTERED, "case sensitive", sender="abcdef"),
    Case("a pending sender", ErrorCode.SENDER_NOT_REGISTERED, "pending", sender="PENDNG"),
    Case("a rejected sender", ErrorCode.SENDER_NOT_REGISTERED, "rejected", sender="REJCTD"),
    Case("a suspended sender", ErrorCode.SENDER_SUSPENDED, "complaints", sender="SUSPND"),
    Case("a sender whose entity is unknown", ErrorCode.SENDER_NOT_REGISTERED, "POST /v1/entities", sender="ORPHAN"),
    Case("an entity without a chain", ErrorCode.DLT_CHAIN_INVALID, "chain", sender="CHAINL"),
    # the template
    Case("no template", ErrorCode.TEMPLATE_NOT_FOUND, "needs `template_id`", template=None, message="Hello"),
    Case("an unknown template", ErrorCode.TEMPLATE_NOT_FOUND, "POST /v1/templates", template="NOTHING"),
    Case("a pending template", ErrorCode.TEMPLATE_NOT_FOUND, "pending", template="PENDING"),
    Case("a rejected template", ErrorCode.TEMPLATE_NOT_FOUND, "rejected", template="REJECTED"),
    Case("a suspended template", ErrorCode.DLT_TEMPLATE_SUSPENDED, "suspended", template="SUSPENDED"),
    Case("a template of another channel", ErrorCode.TEMPLATE_NOT_FOUND, "email", template="MAIL"),
    Case("a template of another header", ErrorCode.SENDER_NOT_REGISTERED, "QWERTY", template="OTHERHDR"),
    Case("a body no rule can read", ErrorCode.TEMPLATE_NOT_FOUND, "cannot be read", template="BROKEN"),
    # categories
    Case(
        "OTP by a service-implicit template",
        template="BANKCODE",
        category=Category.OTP,
        variables=OTP,
        text="123456 is your code for Harkara Stores. Do not share it.",
    ),
    Case(
        "OTP by its own template",
        template="CODE",
        category=Category.OTP,
        variables=OTP,
        text="123456 is your code for Harkara Stores. Do not share it.",
    ),
    Case("an OTP template for an order", ErrorCode.TEMPLATE_CATEGORY_MISMATCH, "otp", template="CODE", variables=OTP),
    Case(
        "promotion by a transactional template",
        ErrorCode.TEMPLATE_CATEGORY_MISMATCH,
        "promotional",
        category=Category.PROMOTIONAL,
    ),
    Case(
        "transactional is no service-implicit",
        ErrorCode.TEMPLATE_CATEGORY_MISMATCH,
        "service_implicit",
        category=Category.SERVICE_IMPLICIT,
    ),
    Case(
        "service-explicit by a promotional template",
        template="SALE",
        category=Category.SERVICE_EXPLICIT,
        variables=SALE_OFFER,
        sender="PROMOS",
        text="Big sale at Harkara Stores: 50 percent off for you.",
    ),
    Case(
        "promotion by a service-explicit template and a numeric header",
        template="EXPLICIT",
        category=Category.PROMOTIONAL,
        variables=SALE_OFFER,
        sender="512345",
        text="Big sale at Harkara Stores: 50 percent off for you.",
    ),
    Case("a numeric header for an order", ErrorCode.TEMPLATE_CATEGORY_MISMATCH, "six letters", sender="512345"),
    Case("a promotional header for an order", ErrorCode.TEMPLATE_CATEGORY_MISMATCH, "promotional", sender="PROMOS"),
    # the text
    Case("a missing variable", ErrorCode.DLT_TEMPLATE_MISMATCH, "link", variables={"name": "Asha", "order": "A1"}),
    Case("an unknown variable", ErrorCode.DLT_TEMPLATE_MISMATCH, "colour", variables=ORDER | {"colour": "red"}),
    Case(
        "a value of the wrong type",
        ErrorCode.DLT_TEMPLATE_MISMATCH,
        "digits",
        template="CODE",
        category=Category.OTP,
        variables={"otp": "12AB56"},
    ),
    Case(
        "another text",
        ErrorCode.DLT_TEMPLATE_MISMATCH,
        "character 12",
        variables=NONE,
        message=SHIPPED_TEXT.replace("your", "the"),
    ),
    Case(
        "both that differ", ErrorCode.DLT_TEMPLATE_MISMATCH, "character 6", message=SHIPPED_TEXT.replace("Asha", "Ravi")
    ),
    Case("an empty text", ErrorCode.DLT_TEMPLATE_MISMATCH, "character 1", variables=NONE, message=""),
    # links
    Case(
        "a web address not on the list",
        ErrorCode.URL_NOT_WHITELISTED,
        "web address at character 56",
        variables=ORDER | {"link": "https://evil.in/t"},
    ),
    Case(
        "a telephone number not on the list",
        ErrorCode.URL_NOT_WHITELISTED,
        "telephone",
        template="CALL",
        variables={"order": "77", "contact": "9876543210"},
    ),
    Case(
        "an e-mail address not on the list",
        ErrorCode.URL_NOT_WHITELISTED,
        "e-mail",
        template="CALL",
        variables={"order": "77", "contact": "me@evil.in"},
    ),
    Case(
        "listed ones",
        template="CALL",
        variables={"order": "77", "contact": "1800 123 4567"},
        text="Call us about your order 77 at Harkara Stores: 1800 123 4567",
    ),
    Case(
        "an order number that looks like a telephone number",
        template="CALL",
        variables={"order": "9876543210", "contact": "care@hkr.in"},
        text="Call us about your order 9876543210 at Harkara Stores: care@hkr.in",
    ),
    Case(
        "the same in a literal text",
        template="CALL",
        variables=NONE,
        message="Call us about your order 9876543210 at Harkara Stores: care@hkr.in",
        text="Call us about your order 9876543210 at Harkara Stores: care@hkr.in",
    ),
    Case(
        "an order number does not excuse another number",
        ErrorCode.URL_NOT_WHITELISTED,
        "telephone",
        template="CALL",
        variables={"order": "9876543210", "contact": "9876543211"},
    ),
    # length and alphabet
    Case(
        "too many parts",
        ErrorCode.MESSAGE_TOO_LONG,
        "11 parts",
        template="LONG",
        variables=NONE,
        message="Harkara Stores: " + "a" * (153 * 10),
    ),
    Case(
        "as many parts as are sent",
        template="LONG",
        variables=NONE,
        message="Harkara Stores: " + "a" * (153 * 10 - 16),
        text="Harkara Stores: " + "a" * (153 * 10 - 16),
    ),
    Case(
        "Unicode that was ruled out",
        ErrorCode.INVALID_UNICODE,
        "U+0906",
        variables=ORDER | {"name": "\u0906\u0936\u093e"},
        unicode=False,
    ),
    Case(
        "Unicode that was not ruled out",
        variables=ORDER | {"name": "\u0906\u0936\u093e"},
        text=SHIPPED_TEXT.replace("Asha", "\u0906\u0936\u093e"),
    ),
    Case("half a character", ErrorCode.INVALID_UNICODE, "surrogate", variables=NONE, message="a\ud800"),
    # the sandbox
    Case(
        "a sandbox template",
        template="SANDBOX_OTP",
        sender="ANYONE",
        variables=OTP,
        category=Category.OTP,
        test_mode=True,
        text="123456 is your one-time password. Do not share it with anyone. - Harkara Sandbox",
    ),
    Case(
        "any other sandbox template",
        template="SANDBOX_MINE",
        variables=NONE,
        message="Whatever I like: https://example.com",
        test_mode=True,
        text="Whatever I like: https://example.com",
    ),
    Case(
        "any other sandbox template with variables",
        template="SANDBOX_MINE",
        variables={"a": "1", "b": "2"},
        test_mode=True,
        text="Test message from SANDBOX_MINE. a: 1, b: 2",
    ),
    Case("the sandbox outside test mode", ErrorCode.TEMPLATE_NOT_FOUND, "test_mode", template="SANDBOX_OTP"),
    Case(
        "no sandbox sender",
        ErrorCode.SENDER_NOT_REGISTERED,
        "6 letters",
        template="SANDBOX_OTP",
        sender=None,
        test_mode=True,
    ),
    Case(
        "a sandbox template of another category",
        ErrorCode.TEMPLATE_CATEGORY_MISMATCH,
        "otp",
        template="SANDBOX_OTP",
        variables=OTP,
        test_mode=True,
    ),
    Case(
        "a sandbox text that differs",
        ErrorCode.DLT_TEMPLATE_MISMATCH,
        "character 8",
        template="SANDBOX_OTP",
        variables=NONE,
        message="123456 was your password",
        category=Category.OTP,
        test_mode=True,
    ),
    Case("test mode asks for a registered template otherwise", test_mode=True, text=SHIPPED_TEXT),
]


def _judge(case: Case, held: Registry | None = None) -> RenderedSms | Refused:
    content = Content(
        sender=case.sender,
        template_id=case.template,
        variables=case.variables,
        message=case.message,
        unicode=case.unicode,
    )
    return judge_sms(
        held or registry(), account_id=ACCOUNT, category=case.category, content=content, test_mode=case.test_mode
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_verdict(case: Case) -> None:
    outcome = _judge(case)
    if case.code is None:
        assert isinstance(outcome, RenderedSms), outcome
        assert outcome.text == case.text
        assert outcome.sender == case.sender
    else:
        assert isinstance(outcome, Refused), outcome
        assert outcome.code is case.code
        assert case.says in outcome.message


@pytest.mark.parametrize("case", [case for case in CASES if case.code], ids=lambda case: case.name)
def test_no_refusal_quotes_what_the_client_wrote(case: Case) -> None:
    outcome = _judge(case)
    assert isinstance(outcome, Refused)
    assert not [value for value in case.variables.values() if value in outcome.message]
    assert not case.message or case.message not in outcome.message


def test_an_sms_carries_everything_a_carrier_needs() -> None:
    outcome = _judge(Case("long", template="LONG", variables=NONE, message="Harkara Stores: " + "\u0905" * 120))
    assert isinstance(outcome, RenderedSms)
    assert (outcome.encoding, outcome.parts) == ("ucs2", 3)
    assert (outcome.entity_id, outcome.dlt_template_id, outcome.chain_hash) == (ENTITY, "1007158000000000006", "chain")
    assert outcome.parts < MAX_SMS_PARTS


def test_an_account_without_whitelist_may_send_what_has_no_links() -> None:
    held = registry()
    for number in range(3):
        held.apply(UrlFact(version=2, deleted=True, account_id=ACCOUNT, url_id=f"URL{number}", kind="", value=""))
    plain = Case("plain", template="CODE", category=Category.OTP, variables=OTP)
    assert isinstance(_judge(plain, held), RenderedSms)
    linked = _judge(Case("linked"), held)
    assert isinstance(linked, Refused)
    assert linked.code is ErrorCode.URL_NOT_WHITELISTED


def _channels(*channels: Channel, template: str = "SHIPPED") -> tuple[list[Channel], list[Channel], ErrorCode | None]:
    content = Content(sender="ABCDEF", template_id=template, variables=ORDER)
    verdict = judge(registry(), account_id=ACCOUNT, category=Category.TRANSACTIONAL, channels=channels, content=content)
    refused = verdict.refused
    return verdict.channels, [refusal.channel for refusal in verdict.refusals], refused.code if refused else None


def test_other_channels_are_refused_and_the_rest_goes_on() -> None:
    assert _channels(Channel.WHATSAPP, Channel.SMS, Channel.VOICE) == (
        [Channel.SMS],
        [Channel.WHATSAPP, Channel.VOICE],
        None,
    )


def test_with_no_channel_left_the_content_s_fault_is_told_first() -> None:
    assert _channels(Channel.WHATSAPP) == ([], [Channel.WHATSAPP], ErrorCode.INVALID_REQUEST)
    _, _, code = _channels(Channel.WHATSAPP, Channel.SMS, template="NOTHING")
    assert code is ErrorCode.TEMPLATE_NOT_FOUND


def test_declared_names_and_types_are_used() -> None:
    held = registry()
    body = "Dear {#var#}, your code is {#num:otp#}. - {#str#}"
    declared = [TemplateVariable(name="who", type="{#str#}"), TemplateVariable(name="brand", type="str")]
    variables = declare_variables(body, declared)
    assert [(variable.name, variable.type) for variable in variables] == [
        ("who", "str"),
        ("otp", "numeric"),
        ("brand", "str"),
    ]
    fact = _template("NAMED", 80, Category.SERVICE_IMPLICIT, body, "approved")
    held.apply(fact.model_copy(update={"variables": variables}))
    outcome = _judge(
        Case(
            "named",
            template="NAMED",
            variables={"who": "Asha", "otp": "1234", "brand": "Harkara"},
            category=Category.OTP,
        ),
        held,
    )
    assert isinstance(outcome, RenderedSms)
    assert outcome.text == "Dear Asha, your code is 1234. - Harkara"
