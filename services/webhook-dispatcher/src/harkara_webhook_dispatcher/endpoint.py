"""A client's endpoint: its rules, and what may be written into one."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from ipaddress import ip_address

from yarl import URL

from harkara_contracts.errors import ErrorCode, HarkaraError
from harkara_webhook_dispatcher.guard import refusal
from harkara_webhook_dispatcher.payload import OFFERED, ONLY_IF_CHOSEN
from harkara_webhook_dispatcher.signature import SigningKey

ACTIVE = "active"
DISABLED = "disabled"

URL_LENGTH_MAX = 2048
DESCRIPTION_LENGTH_MAX = 256
_HTTPS_PORT = 443
_FIRST_FREE_PORT = 1024
_AFTER_AUTHORITY = re.compile(r"[/?#]")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint with its opened secrets. `previous_key` signs too until `overlap_ends_at`.

    No `events` means all but `ONLY_IF_CHOSEN`.
    """

    webhook_id: str
    account_id: str
    url: URL
    events: frozenset[str]
    description: str
    status: str
    reason: str | None
    created_at: datetime
    key: SigningKey = field(repr=False)
    previous_key: SigningKey | None = field(repr=False)
    overlap_ends_at: datetime | None
    failing_since: datetime | None

    @property
    def is_active(self) -> bool:
        return self.status == ACTIVE

    def wants(self, event: str) -> bool:
        return event in self.events if self.events else event not in ONLY_IF_CHOSEN

    def living_keys(self, now: datetime) -> list[SigningKey]:
        """Return the keys that sign now, newest first."""
        if self.previous_key is None or self.overlap_ends_at is None or now >= self.overlap_ends_at:
            return [self.key]
        return [self.key, self.previous_key]


def checked_url(text: str, *, sandbox: bool) -> str:
    """Return the URL as given if webhooks may go there.

    `sandbox` lets plain http and addresses of one's own network through, for trying things out on one machine.

    Raises:
        HarkaraError: ERR_INVALID_REQUEST with what is wrong.
    """
    if len(text) > URL_LENGTH_MAX:
        raise _invalid(f"url is longer than {URL_LENGTH_MAX:,} characters")
    if not text.isascii() or not text.isprintable() or " " in text or "\\" in text:
        raise _invalid("url has a space, a backslash or a character outside ASCII: percent-encode it")
    try:
        url = URL(text)
        host, port = url.host, url.port
    except ValueError as error:
        raise _invalid("url cannot be read: give it as https://host/path") from error
    if url.scheme != "https" and not (sandbox and url.scheme == "http"):
        raise _invalid("url must start with https://")
    if not host:
        raise _invalid("url has no host: give it as https://host/path")
    if "@" in _AFTER_AUTHORITY.split(text.partition("://")[2], maxsplit=1)[0]:
        raise _invalid("url must not carry a user name or password: the signature proves who calls")
    if "#" in text:
        raise _invalid("url must not have a fragment (the part after #): it is never sent")
    if not sandbox:
        _check_place(host, port)
    return text


def _check_place(host: str, port: int | None) -> None:
    if port != _HTTPS_PORT and (port is None or port < _FIRST_FREE_PORT):
        raise _invalid(f"url's port must be {_HTTPS_PORT}, or {_FIRST_FREE_PORT} and above")
    try:
        ip_address(host)
    except ValueError:
        if "." not in host.rstrip("."):
            raise _invalid("url's host must be a full domain name") from None
        return
    if words := refusal(host):
        raise _invalid(f"url's address is not public ({words})")


def checked_events(names: Iterable[str]) -> list[str]:
    """Return the chosen events once each, sorted.

    Raises:
        HarkaraError: ERR_INVALID_REQUEST for a name that is not offered.
    """
    chosen = set(names)
    if unknown := sorted(chosen - OFFERED):
        raise _invalid(f"events has unknown names ({len(unknown)}); offered are: {', '.join(sorted(OFFERED))}")
    return sorted(chosen)


def checked_description(text: str) -> str:
    if len(text) > DESCRIPTION_LENGTH_MAX:
        raise _invalid(f"description is longer than {DESCRIPTION_LENGTH_MAX} characters")
    return text


def checked_status(status: str) -> str:
    if status not in {ACTIVE, DISABLED}:
        raise _invalid(f"status must be {ACTIVE} or {DISABLED}")
    return status


def _invalid(message: str) -> HarkaraError:
    return HarkaraError(ErrorCode.INVALID_REQUEST, message)
