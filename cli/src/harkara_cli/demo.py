"""The demo account: made once through the public API, as any client would, and written to demo.json for scripts.

Every step may be repeated: a start that was cut short in the middle is completed by the next one.
"""

import json
from dataclasses import asdict, dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

from harkara_cli.api import Api, ApiError
from harkara_cli.home import Home, write_private
from harkara_cli.ports import LOOPBACK
from harkara_cli.stack import Stack
from harkara_smsc_simulator.magic import MAGIC_NUMBERS

ENTITY_ID = "1101172974420810001"
TELEMARKETER_ID = "1101172974420830004"
SENDER = "HRKARA"
TOPUP_PAISE = 100_000_000  # ten lakh rupees
_PATIENCE_S = 20.0

TEMPLATES: tuple[dict[str, Any], ...] = (
    {
        "template_id": "TN_SHIP_001",
        "dlt_template_id": "1007172974420840001",
        "category": "transactional",
        "body": "Dear {#str:name#}, your order {#str:order_id#} has been shipped and reaches you by {#str:date#}. "
        "Thank you for shopping with Harkara.",
        "language": "en",
    },
    {
        "template_id": "TN_OTP_001",
        "dlt_template_id": "1007172974420840002",
        "category": "otp",
        "body": "{#num:otp#} is your Harkara login code. It is valid for {#num:minutes#} minutes. "
        "Do not share it with anyone.",
        "language": "en",
    },
    {
        "template_id": "TN_PROMO_001",
        "dlt_template_id": "1007172974420840003",
        "category": "promotional",
        "body": "Festive sale at Harkara Stores: {#num:percent#} percent off on {#str:product#} until {#str:date#}.",
        "language": "en",
    },
    {
        "template_id": "TN_HINDI_001",
        "dlt_template_id": "1007172974420840004",
        "category": "transactional",
        "body": "नमस्ते {#str:name#}, आपका ऑर्डर {#str:order_id#} भेज दिया गया है। हरकारा से खरीदारी के लिए धन्यवाद।",
        "language": "hi",
    },
)


@dataclass(frozen=True)
class Credentials:
    """What is told once, when the account is made."""

    account_id: str
    api_key: str
    signing_secret: str


def make_demo(stack: Stack) -> None:
    """Makes or completes the demo account, then writes demo.json."""
    home = stack.home
    credentials, is_complete = _known(home)
    if credentials and not _is_accepted(stack, credentials):
        credentials = None  # the database was begun anew
    if credentials is None:
        is_complete = False
        credentials = _make_account(stack)
        write_private(_draft(home), json.dumps(asdict(credentials)))
    if not is_complete:
        _furnish(stack, credentials)
    write_private(home.demo_file, json.dumps(_description(stack, credentials), indent=2, ensure_ascii=False))
    _draft(home).unlink(missing_ok=True)


def _draft(home: Home) -> Path:
    return home.path / "demo.draft.json"


def _known(home: Home) -> tuple[Credentials | None, bool]:
    """Credentials of an earlier start, and whether that start came to its end."""
    for path, is_complete in ((_draft(home), False), (home.demo_file, True)):
        if path.exists():
            known = json.loads(path.read_text())
            return Credentials(known["account_id"], known["api_key"], known["signing_secret"]), is_complete
    return None, False


def _is_accepted(stack: Stack, credentials: Credentials) -> bool:
    try:
        Api(stack.base_url, credentials.api_key, _PATIENCE_S).get("/v1/account/balance")
    except ApiError as error:
        if error.status == HTTPStatus.UNAUTHORIZED:
            return False
        raise
    return True


def _make_account(stack: Stack) -> Credentials:
    operator = Api(stack.base_url, stack.home.secrets.operator_key, _PATIENCE_S)
    made = operator.post("/v1/accounts", {"name": "Demo", "plan": "enterprise", "auto_approve": True})
    return Credentials(made["account_id"], made["api_key"], made["signing_secret"])


def _furnish(stack: Stack, credentials: Credentials) -> None:
    operator = Api(stack.base_url, stack.home.secrets.operator_key, _PATIENCE_S)
    operator.post(f"/v1/accounts/{credentials.account_id}/topups", {"amount_paise": TOPUP_PAISE, "reference": "demo"})
    account = Api(stack.base_url, credentials.api_key, _PATIENCE_S)
    entity = {"entity_id": ENTITY_ID, "name": "Harkara Stores", "telemarketer_chain": [TELEMARKETER_ID]}
    _register(account, "/v1/entities", entity)
    _register(account, "/v1/senders", {"sender": SENDER, "entity_id": ENTITY_ID, "kind": "transactional"})
    for template in TEMPLATES:
        _register(account, "/v1/templates", {"channel": "sms", "senders": [SENDER], **template})


def _register(account: Api, path: str, body: dict[str, Any]) -> None:
    try:
        account.post(path, body)
    except ApiError as error:
        if error.status != HTTPStatus.CONFLICT:  # a conflict: an earlier start has got this far
            raise


def _description(stack: Stack, credentials: Credentials) -> dict[str, Any]:
    return {
        "base_url": stack.base_url,
        "grpc": f"{LOOPBACK}:{stack.ports['ingress.grpc']}",
        "smpp": f"{LOOPBACK}:{stack.ports['ingress.smpp']}",
        **asdict(credentials),
        "operator_key": stack.home.secrets.operator_key,
        "sender": SENDER,
        "template_id": TEMPLATES[0]["template_id"],
        "simulators": {"smsc": f"http://{LOOPBACK}:{stack.ports['smsc.http']}"},
        "magic_numbers": dict(MAGIC_NUMBERS),
    }
