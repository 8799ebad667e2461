"""What test mode gives to every account, without registering anything: templates, and numbers with a known fate.

Three of the templates are real ones, so that a mismatch can be tried; any other id with the prefix takes whatever it is
given. The DLT ids are made up and never leave the platform: test messages go to a simulated carrier.
"""

from datetime import UTC, datetime
from typing import Final, NamedTuple

from harkara_contracts.errors import ErrorCode
from harkara_contracts.facts import TemplateFact
from harkara_contracts.subjects import Category, Channel
from harkara_dlt import chain_hash
from harkara_registry.registry import KnownTemplate
from harkara_registry.statuses import Status
from harkara_registry.templates import declare_variables

SANDBOX_PREFIX: Final = "SANDBOX_"
SANDBOX_ENTITY_ID: Final = "1001000000000000001"
SANDBOX_CHAIN_HASH: Final = chain_hash((SANDBOX_ENTITY_ID, "1002000000000000001"))
SANDBOX_SENDER: Final = "HARKRA"
"""Any header of six letters does."""
SANDBOX_FREE_DLT_ID: Final = "1007000000000000000"


def _template(name: str, number: int, category: Category, body: str) -> KnownTemplate:
    return KnownTemplate(
        TemplateFact(
            version=0,
            account_id="SANDBOX",
            template_id=SANDBOX_PREFIX + name,
            channel=Channel.SMS,
            dlt_template_id=str(int(SANDBOX_FREE_DLT_ID) + number),
            category=category,
            senders=[],
            body=body,
            variables=declare_variables(body, None),
            status=Status.APPROVED,
            created_at=datetime(2026, 1, 1, tzinfo=UTC),
        )
    )


SANDBOX_TEMPLATES: Final[dict[str, KnownTemplate]] = {
    known.fact.template_id: known
    for known in (
        _template(
            "OTP",
            1,
            Category.OTP,
            "{#numeric:otp#} is your one-time password. Do not share it with anyone. - Harkara Sandbox",
        ),
        _template(
            "TXN",
            2,
            Category.TRANSACTIONAL,
            "Dear {#str:name#}, your order {#alphanumeric:reference#} is on its way. - Harkara Sandbox",
        ),
        _template(
            "PROMO",
            3,
            Category.PROMOTIONAL,
            "Enjoy {#str:offer#} with the code {#alphanumeric:code#}. - Harkara Sandbox",
        ),
    )
}


class SandboxNumber(NamedTuple):
    """A number with a known fate on the simulated carrier: the final state, and the error that message and webhook tell."""

    name: str
    number: str
    state: str
    error_code: ErrorCode | None
    description: str


SANDBOX_NUMBERS: Final = (
    SandboxNumber("delivered", "919999900001", "delivered", None, "delivered, as every number that is not listed"),
    SandboxNumber("failed_absent", "919999900002", "failed", ErrorCode.HANDSET_UNREACHABLE, "handset unreachable"),
    SandboxNumber("failed_inactive", "919999900003", "failed", ErrorCode.NUMBER_INACTIVE, "number not in use"),
    SandboxNumber(
        "failed_dnd", "919999900004", "failed", ErrorCode.DND_SUBSCRIBER, "refused by the do-not-disturb register"
    ),
    SandboxNumber(
        "failed_rejected", "919999900005", "failed", ErrorCode.INVALID_MOBILE, "refused by the carrier at hand-over"
    ),
    SandboxNumber(
        "failed_template",
        "919999900006",
        "failed",
        ErrorCode.DLT_TEMPLATE_MISMATCH,
        "text differs from its DLT template",
    ),
    SandboxNumber("expired", "919999900007", "failed", ErrorCode.EXPIRED, "expired at the carrier"),
    SandboxNumber(
        "silent", "919999900008", "expired", ErrorCode.EXPIRED, "accepted, never a receipt: ends with its validity"
    ),
    SandboxNumber("slow", "919999900009", "delivered", None, "receipt after 20 seconds"),
    SandboxNumber("throttled_once", "919999900010", "delivered", None, "throttled once, then delivered"),
    SandboxNumber(
        "failed_sender", "919999900011", "failed", ErrorCode.SENDER_NOT_REGISTERED, "sender unknown to the operator"
    ),
    SandboxNumber(
        "failed_sender_suspended", "919999900012", "failed", ErrorCode.SENDER_SUSPENDED, "sender suspended on DLT"
    ),
    SandboxNumber(
        "failed_template_unknown",
        "919999900013",
        "failed",
        ErrorCode.TEMPLATE_NOT_FOUND,
        "template unknown to the operator",
    ),
    SandboxNumber(
        "failed_template_suspended",
        "919999900014",
        "failed",
        ErrorCode.DLT_TEMPLATE_SUSPENDED,
        "template suspended on DLT",
    ),
    SandboxNumber(
        "failed_category",
        "919999900015",
        "failed",
        ErrorCode.TEMPLATE_CATEGORY_MISMATCH,
        "template of another category than the sender's",
    ),
    SandboxNumber(
        "failed_chain", "919999900016", "failed", ErrorCode.DLT_CHAIN_INVALID, "chain of telemarketers not registered"
    ),
    SandboxNumber("failed_consent", "919999900017", "failed", ErrorCode.CONSENT_REQUIRED, "no consent on record"),
    SandboxNumber(
        "failed_window", "919999900018", "failed", ErrorCode.OUTSIDE_PROMO_WINDOW, "outside the hours of promotion"
    ),
    SandboxNumber(
        "failed_barred", "919999900019", "failed", ErrorCode.CARRIER_REJECTED, "number takes no messages of this kind"
    ),
    SandboxNumber(
        "failed_network", "919999900020", "failed", ErrorCode.CARRIER_UNAVAILABLE, "fault of the mobile network"
    ),
    SandboxNumber(
        "failed_too_long", "919999900021", "failed", ErrorCode.MESSAGE_TOO_LONG, "too long for the carrier at hand-over"
    ),
    SandboxNumber(
        "unanswered",
        "919999900022",
        "expired",
        ErrorCode.EXPIRED,
        "the carrier never answers: the attempt ends as ERR_OUTCOME_UNKNOWN with the validity",
    ),
)
