"""A simulated carrier, and a sender bound to it, in the test's own loop."""

import json
import secrets
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from harkara_chassis import Service
from harkara_contracts.events import AttemptFunded, SmsContent
from harkara_contracts.ids import attempt_id, new_message_id
from harkara_contracts.subjects import Category, Channel, Lane
from harkara_sms_sender.app import build
from harkara_sms_sender.settings import Settings
from harkara_sms_text import measure
from harkara_smsc_simulator.app import Running, running
from harkara_smsc_simulator.app import Settings as SmscSettings
from harkara_smsc_simulator.behaviour import Behaviour

CATEGORIES = {
    Lane.OTP: Category.OTP,
    Lane.TRANSACTIONAL: Category.TRANSACTIONAL,
    Lane.PROMOTIONAL: Category.PROMOTIONAL,
}


def _funded(
    *,
    to: str | None = None,
    text: str = "Your parcel is on its way.",
    lane: Lane = Lane.TRANSACTIONAL,
    carrier: str = "jio",
    valid_s: float = 3600.0,
    **changes: Any,
) -> AttemptFunded:
    """Return an attempt of a new message; a number of its own unless one is given."""
    message_id = new_message_id()
    now = datetime.now(UTC)
    parts = measure(text).parts
    values: dict[str, Any] = {
        "attempt_id": attempt_id(message_id, 1),
        "message_id": message_id,
        "account_id": "ACCTEST",
        "lane": lane,
        "channel": Channel.SMS,
        "carrier": carrier,
        "to": to or f"9198{secrets.randbelow(10**8):08d}",
        "sender": "HRKARA",
        "category": CATEGORIES[lane],
        "units": parts,
        "sms": SmsContent(
            sender="HRKARA",
            text=text,
            encoding=measure(text).encoding.value,
            parts=parts,
            entity_id="1001234567890123456",
            dlt_template_id="1007123456789012345",
            chain_hash="ab" * 32,
        ),
        "expires_at": now + timedelta(seconds=valid_s),
        "planned_at": now,
        "price_mp": 20_000,
    }
    return AttemptFunded(**(values | changes))


@pytest.fixture
def funded() -> Callable[..., AttemptFunded]:
    """Make an attempt: `funded(lane=Lane.OTP, text="…")`."""
    return _funded


Simulate = Callable[..., AbstractAsyncContextManager[Running]]


@pytest.fixture
def simulate() -> Simulate:
    """Run a simulated SMSC: `async with simulate(receipt_delay_s=0.2) as smsc:`."""

    @asynccontextmanager
    async def start(port: int = 0, **behaviour: Any) -> AsyncIterator[Running]:
        async with running(SmscSettings(port=port, http_port=0, behaviour=Behaviour(**behaviour))) as smsc:
            yield smsc

    return start


@dataclass(frozen=True)
class Senders:
    """Starts senders for a carrier at a port."""

    run_service: Any
    directory: Path

    @asynccontextmanager
    async def __call__(
        self, port: int, others: Sequence[dict[str, Any]] = (), **changes: Any
    ) -> AsyncIterator[Service[Settings]]:
        """Run a sender; `changes` go to the carrier, except those that are the service's own settings."""
        own = {name: changes.pop(name) for name in list(changes) if name in Settings.model_fields}
        carrier = {"name": "jio", "host": "127.0.0.1", "port": port, "system_id": "harkara", **changes}
        path = self.directory / "carriers.yaml"
        path.write_text(json.dumps({"carriers": [carrier, *others]}))  # JSON is YAML
        values = {
            "receipt_grace_s": 0.2,
            "parked_retry_s": 0.05,
            "health_debounce_s": 0.02,
            "carrier_wait_s": 0.3,
        } | own
        async with self.run_service("sms-sender", build, Settings, carriers_file=path, **values) as service:
            yield service


@pytest.fixture
def senders(run_service: Any, tmp_path: Path) -> Senders:
    return Senders(run_service, tmp_path)


@pytest.fixture
def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
