"""What is sent: messages of each lane in turn, from an account that is made for the run."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from bench.account import Account, dlt_id, open_account
from bench.load import ORDER, Content
from bench.stack import Stack

from harkara_cli.api import Api
from harkara_contracts.subjects import Lane
from harkara_dlt.window import is_open

_PATIENCE_S = 15.0
_PROMOTIONAL_SENDER = "612345"
_OTP_TEMPLATE = "CHAOS_LOGIN"
_PROMOTIONAL_TEMPLATE = "CHAOS_SALE"


@dataclass(frozen=True)
class Traffic:
    """Message i is of the sort i modulo the number of `contents`, and goes by the lane in the same place of `lanes`."""

    account: Account
    contents: tuple[Content, ...]
    lanes: tuple[Lane, ...]

    def lane_of(self, index: int) -> Lane:
        return self.lanes[index % len(self.lanes)]


def open_traffic(stack: Stack, webhook_url: str, runs_for_s: float, validity_s: int | None = None) -> Traffic:
    """Promotions are among it while the hours in which they may be sent last for the whole run."""
    account = open_account(stack, webhook_url)
    client = Api(stack.base_url, account.api_key, _PATIENCE_S)
    entity_id = client.get("/v1/entities")["entities"][0]["entity_id"]
    _template(client, _OTP_TEMPLATE, "otp", account.sender, "{#num:otp#} is your login code at Bench Stores.")
    shipped = Content(
        sender=account.sender,
        template_id=account.template_id,
        variables={"name": "Asha", "order_id": ORDER, "date": "12 December"},
        validity_s=validity_s,
    )
    login = replace(shipped, template_id=_OTP_TEMPLATE, variables={"otp": "482913"})
    contents, lanes = [shipped, login], [Lane.TRANSACTIONAL, Lane.OTP]
    now = datetime.now(UTC)
    if is_open(now) and is_open(now + timedelta(seconds=runs_for_s)):
        client.post("/v1/senders", {"sender": _PROMOTIONAL_SENDER, "entity_id": entity_id, "kind": "promotional"})
        _template(
            client, _PROMOTIONAL_TEMPLATE, "promotional", _PROMOTIONAL_SENDER, "Sale at Bench Stores: {#str:offer#}"
        )
        contents.append(
            replace(
                shipped,
                sender=_PROMOTIONAL_SENDER,
                template_id=_PROMOTIONAL_TEMPLATE,
                variables={"offer": ORDER},
            )
        )
        lanes.append(Lane.PROMOTIONAL)
    return Traffic(account, tuple(contents), tuple(lanes))


def _template(client: Api, template_id: str, category: str, sender: str, body: str) -> None:
    client.post(
        "/v1/templates",
        {
            "template_id": template_id,
            "channel": "sms",
            "dlt_template_id": dlt_id("1107"),
            "category": category,
            "senders": [sender],
            "body": body,
            "language": "en",
        },
    )
