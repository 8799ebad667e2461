"""Templates that every account may use in test mode, without registering anything.

Three are real templates, so that a mismatch can be tried; any other id with the prefix takes whatever it is given.
The DLT ids are made up and never leave the platform: test messages go to a simulated carrier.
"""

from datetime import UTC, datetime
from typing import Final

from harkara_contracts.facts import TemplateFact
from harkara_contracts.subjects import Category, Channel
from harkara_dlt import chain_hash
from harkara_registry.registry import KnownTemplate
from harkara_registry.statuses import Status
from harkara_registry.templates import declare_variables

SANDBOX_PREFIX: Final = "SANDBOX_"
SANDBOX_ENTITY_ID: Final = "1001000000000000001"
SANDBOX_CHAIN_HASH: Final = chain_hash((SANDBOX_ENTITY_ID, "1002000000000000001"))
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
