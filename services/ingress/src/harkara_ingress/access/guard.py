"""Who may come in with a key, beyond having it: from where, and signed how.

The address and the signature are the account's own rules (`PUT /v1/security`); the platform's operator has none.

A signature says which body was meant, and when; of a request without a body only when. So the first use of a signature is
remembered, of one without a body together with the method and path: two deletions in one second are no replay.
"""

import asyncio
import hashlib
import time
from collections.abc import Callable, Iterator

from harkara_contracts.errors import ErrorCode, HarkaraError
from harkara_ingress.access import signing
from harkara_ingress.access.accounts import Caller, Scope
from harkara_ingress.access.first_uses import FirstUses
from harkara_ingress.access.key_use import KeyUse
from harkara_ingress.access.signing_secrets import SigningSecrets
from harkara_ingress.http.context import RequestContext

_SAFE_METHODS = frozenset({"GET", "HEAD"})
ANSWERED_ONCE = frozenset(
    {
        *(f"/v1/{channel}/send" for channel in ("messages", "sms", "whatsapp", "rcs", "voice", "email")),
        "/v1/messages/bulk",
        "/v1/sms/bulk",
        "/harkara.v1.Messages/Send",
        "/harkara.v1.Messages/SendBulk",
    }
)
"""Where an Idempotency-Key is heeded. Anywhere else the copy of a request would be carried out, whatever key it names."""
_LARGE_BYTES = 1 << 16
"""Checking more than this takes long enough for others to be let through in between."""


class Guard:
    """What the edge asks before it takes a request; over HTTP and gRPC alike."""

    def __init__(
        self,
        secrets: SigningSecrets,
        first_uses: FirstUses,
        key_use: KeyUse,
        header_prefix: str,
        unix_time: Callable[[], float] = time.time,
    ) -> None:
        self._secrets = secrets
        self._first_uses = first_uses
        self._timestamp_header = f"{header_prefix}-Timestamp"
        self._signature_header = f"{header_prefix}-Signature"
        self._timestamp_name = self._timestamp_header.lower().encode()
        self._signature_name = self._signature_header.lower().encode()
        self._key_use = key_use
        self._unix_time = unix_time

    def check_address(self, caller: Caller, host: str) -> None:
        """Refuse an address that the account does not allow. Takes no time worth counting; ask before the body is read.

        Args:
            caller: whose key was shown.
            host: the address of the client itself, behind any proxies that are trusted.

        Raises:
            HarkaraError: ERR_IP_NOT_ALLOWED.
        """
        if not caller.allow_list.allows(host):
            raise HarkaraError(
                ErrorCode.IP_NOT_ALLOWED,
                "This account takes no requests from your address. Send from one on its list, or have the list changed"
                " (PUT /v1/security) from such an address or by us.",
            )

    async def check_signature(self, caller: Caller, context: RequestContext, method: str) -> None:
        """Check the signature of a request whose body is read, where one is given or the account requires it.

        Args:
            caller: whose key was shown.
            context: the request; its headers, path and body are looked at.
            method: of HTTP; GET and HEAD change nothing, so that their repeats do no harm.

        Raises:
            HarkaraError: ERR_SIGNATURE_INVALID; ERR_UNAVAILABLE, the account's secret cannot be read at the moment.
        """
        timestamp = context.headers.get(self._timestamp_name)
        signature = context.headers.get(self._signature_name)
        if timestamp is None and signature is None and not caller.require_signature:
            return
        if Scope.OPERATOR in caller.scopes:
            return
        if timestamp is None or signature is None:
            raise signing.invalid(
                f"A signed request has both headers, {self._timestamp_header} and {self._signature_header}."
                + (" This account takes signed requests only." if caller.require_signature else "")
            )
        signing.check_timestamp(timestamp, self._unix_time())
        if not signing.is_signature(signature):
            raise signing.invalid(f"{self._signature_header} is sha256= and 64 lower-case hexadecimal digits.")
        secrets = await self._secrets.of(caller.account_id, caller.account_version)
        if not await _verified(signing.verdicts(secrets, timestamp, signature, context.body), len(context.body)):
            raise signing.invalid(
                "The signature does not match. It is the HMAC-SHA256 of the timestamp followed directly by the body,"
                " with the whole signing secret as it was shown for the key."
            )
        if method not in _SAFE_METHODS and not await self._is_first_use(caller, context, method, signature):
            raise signing.invalid(
                "This signature was used before. Sign each request anew with the time it is sent at; only a repeat with"
                " the same Idempotency-Key may keep its signature."
            )

    def used(self, key_id: str) -> None:
        """Note that a key was shown just now, and let in."""
        self._key_use.note(key_id)

    async def _is_first_use(self, caller: Caller, context: RequestContext, method: str, signature: bytes) -> bool:
        target = b"%b %b" % (method.encode(), context.path.encode())
        named = signature if context.body else b"%b %b" % (signature, target)
        key = context.headers.get(b"idempotency-key")
        use = _digest(b"%b %b" % (target, key)) if key is not None and context.path in ANSWERED_ONCE else None
        return await self._first_uses.admit(caller.account_id, _digest(named), use)


async def _verified(verdicts: Iterator[bool | None], size: int) -> bool:
    for verdict in verdicts:
        if verdict is not None:
            return verdict
        if size > _LARGE_BYTES:
            await asyncio.sleep(0)
    return False


def _digest(what: bytes) -> bytes:
    return hashlib.sha256(what).digest()[:16]
