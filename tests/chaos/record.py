"""What is written down of one run while it goes on, and asked from the platform when it is quiet."""

import http.client
import json
import time
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any, cast

from bench.account import TOPUP_PAISE, money_of
from bench.load import LoadResult
from bench.sink import Arrival, Collected
from bench.stack import Stack
from bench.worker import Worker
from tests.chaos.tally import Evidence, Sent
from tests.chaos.traffic import Traffic

from harkara_cli.api import Api
from harkara_cli.status import stack_of
from harkara_contracts.consumers import COMMAND_CONSUMERS, CONSUMERS
from harkara_contracts.subjects import Lane

_PATIENCE_S = 15.0
_COLLECT_TIMEOUT_S = 60.0
_POLL_S = 0.2
_ARRIVALS_ARE_SURE_AFTER_S = 0.5
_DURABLES = {
    *(spec.durable(lane) for spec in CONSUMERS for lane in spec.lanes),
    *(spec.durable for spec in COMMAND_CONSUMERS),
}
"""The others are the views of facts, which a killed process leaves behind for half a minute."""

_SETTLE_UNSEEN_S = 11.0
"""Where the bus cannot be asked: longer than any consumer waits before it gives a message out again."""


@dataclass
class Record:
    """One run of any number of loads through one account."""

    stack: Stack
    traffic: Traffic
    sink: Worker
    sent: list[Sent] = field(default_factory=list)
    unanswered: int = 0
    refused: int = 0
    repeats: int = 0
    began: datetime = field(default_factory=lambda: datetime.now(UTC))
    began_at: float = field(default_factory=time.monotonic)
    _submits: list[tuple[int, float]] = field(default_factory=list)
    _submits_until: float = field(default_factory=time.monotonic)
    _arrivals: list[Arrival] = field(default_factory=list)
    _reported: set[str] = field(default_factory=set)
    _bad_signatures: int = 0

    def add(self, load: LoadResult) -> None:
        accepted = load.accepted
        self.sent += [
            Sent(load.first_number + index, load.message_ids[index], self.traffic.lane_of(index), load.begun[index])
            for index in accepted
        ]
        unanswered = sum(status == 0 for status in load.status)
        self.unanswered += unanswered
        self.refused += load.count - len(accepted) - unanswered
        self.repeats += load.repeats

    def look(self) -> None:
        """Takes over what carrier and sink have seen since the last time."""
        now = time.monotonic() - _ARRIVALS_ARE_SURE_AFTER_S
        self._submits += [one for one in self.stack.smsc_arrivals(self._submits_until) if one[1] <= now]
        self._submits_until = max(self._submits_until, now)
        collected: Collected = self.sink.ask(
            "collect", self.traffic.account.webhook_secret, timeout_s=_COLLECT_TIMEOUT_S
        )
        self._arrivals += collected.arrivals
        self._reported.update(arrival.message_id for arrival in collected.arrivals)
        self._bad_signatures += collected.bad_signatures + collected.malformed

    def await_quiet(self, patience_s: float) -> bool:
        """Until every message has its webhook, nothing is held and nothing is under way on the bus; False if it never is."""
        deadline = time.monotonic() + patience_s
        while not self._is_quiet():
            if time.monotonic() > deadline:
                self._look_a_last_time()
                return False
            time.sleep(_POLL_S)
        self._look_a_last_time()
        return True

    def _is_quiet(self) -> bool:
        self.look()
        if not all(sent.message_id in self._reported for sent in self.sent):
            return False
        if money_of(self.stack, self.traffic.account).held_paise:
            return False
        under_way = events_under_way(self.stack)
        if under_way is None:
            time.sleep(_SETTLE_UNSEEN_S)
        return not under_way

    def _look_a_last_time(self) -> None:
        time.sleep(2 * _ARRIVALS_ARE_SURE_AFTER_S)
        self.look()

    def evidence(self, healed_at: float | None = None) -> Evidence:
        """Asks the account's API for all it tells."""
        client = Api(self.stack.base_url, self.traffic.account.api_key, _PATIENCE_S)
        money = money_of(self.stack, self.traffic.account)
        return Evidence(
            sent=self.sent,
            unanswered=self.unanswered,
            refused=self.refused,
            repeats=self.repeats,
            submits=self._submits,
            arrivals=self._arrivals,
            bad_signatures=self._bad_signatures,
            statuses=list(_pages(client, "/v1/messages?limit=200", "messages")),
            ledger=list(_pages(client, "/v1/account/ledger?limit=1000", "entries")),
            topup_paise=TOPUP_PAISE,
            available_paise=money.available_paise,
            held_paise=money.held_paise,
            rates=list_prices(),
            dead=self.stack.dead_letters(self.began) or (),
            healed_at=healed_at,
        )


def _pages(client: Api, path: str, name: str) -> Iterator[Mapping[str, Any]]:
    """Everything in a list that comes in pages."""
    page = client.get(path)
    yield from page[name]
    while page["next_cursor"] is not None:
        page = client.get(f"{path}&cursor={page['next_cursor']}")
        yield from page[name]


def list_prices() -> dict[Lane, frozenset[float]]:
    """The prices of a part in paise by lane, of every slab."""
    sms = tomllib.loads((files("harkara_billing") / "prices.toml").read_text())["sms"]
    return {lane: frozenset(map(float, sms["rates"][sms["columns"][lane.value]])) for lane in Lane}


def events_under_way(stack: Stack) -> int | None:
    """Stream messages that some service has yet to take or to finish; None where the bus is not the stack's own."""
    record = stack.home.running() if stack.home else None
    if stack.home is None or record is None or "NATS_URL" in record.overrides:
        return None
    port = stack_of(stack.home, record).ports["nats.monitoring"]
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_PATIENCE_S)
    try:
        connection.request("GET", "/jsz?consumers=true")
        answer: Any = json.loads(connection.getresponse().read())
    except (OSError, http.client.HTTPException, ValueError):
        return 1  # it is not there at the moment: nothing is quiet
    finally:
        connection.close()
    consumers = [
        consumer
        for account in answer.get("account_details", ())
        for stream in account.get("stream_detail", ())
        for consumer in cast("list[dict[str, Any]]", stream.get("consumer_detail") or [])
    ]
    return sum(
        int(consumer["num_pending"]) + int(consumer["num_ack_pending"])
        for consumer in consumers
        if consumer["name"] in _DURABLES
    )
