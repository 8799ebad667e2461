"""The door of both edges, HTTP and gRPC: who is calling, how often, from where, and signed how.

The limit comes first, so that nothing else can be asked at speed; the body is read in between by who knows how.
"""

import time
from collections.abc import Callable

from harkara_contracts.errors import ErrorCode, HarkaraError
from harkara_ingress.access.accounts import Caller, Directory, Scope
from harkara_ingress.access.guard import Guard
from harkara_ingress.access.limits import Decision, Limiter, Rate
from harkara_ingress.http.context import RequestContext
from harkara_ingress.http.proxies import counted_as
from harkara_ingress.refusals import RateLimitedError


class Admission:
    """Lets requests in. `anonymous_per_minute` is for each address that shows no valid key."""

    def __init__(
        self,
        directory: Directory,
        limiter: Limiter,
        guard: Guard,
        anonymous_per_minute: int,
        unix_time: Callable[[], float] = time.time,
    ) -> None:
        self._directory = directory
        self._limiter = limiter
        self._guard = guard
        self._anonymous = Rate(anonymous_per_minute, 60.0, anonymous_per_minute)
        self._unix_time = unix_time

    async def admit(self, context: RequestContext, host: str, *, needs_key: bool) -> None:
        """Find the caller and take one request of its limit; both are then told by the context.

        Args:
            context: the request, without its body.
            host: the address of the client itself.
            needs_key: False where anybody may ask.

        Raises:
            RateLimitedError: too many requests.
            HarkaraError: ERR_UNAUTHORIZED, ERR_IP_NOT_ALLOWED, ERR_FORBIDDEN.
        """
        caller = context.caller = self._caller(context.headers)
        if caller is None:
            await self._take_as_stranger(context, host)
            if needs_key:
                raise HarkaraError(
                    ErrorCode.UNAUTHORIZED,
                    "The API key is missing, unknown, expired or revoked: Authorization: Bearer <key>.",
                )
            return
        try:
            self._guard.check_address(caller, host)
        except HarkaraError:
            # Whoever shows a stolen key from elsewhere must not use up its account's limit.
            await self._take_as_stranger(context, host)
            raise
        context.decision = await self._limiter.take(f"requests:{caller.account_id}", caller.requests)
        if not context.decision.allowed:
            raise _too_many(context.decision)
        if caller.suspended:
            raise HarkaraError(ErrorCode.FORBIDDEN, "This account is suspended. Ask us to open it again.")
        self._guard.used(caller.key_id)

    async def check_signature(self, context: RequestContext, method: str) -> None:
        """Check the signature of a request that was let in, over its body; `method` is that of HTTP.

        Raises:
            HarkaraError: ERR_SIGNATURE_INVALID, or ERR_UNAVAILABLE where it cannot be checked at the moment.
        """
        if context.caller is not None:
            await self._guard.check_signature(context.caller, context, method)

    def still_admits(self, context: RequestContext, scope: Scope) -> bool:
        """Tell whether a request that goes on for long would be let in again: its key may have been revoked meanwhile."""
        caller = self._caller(context.headers)
        if caller is None or caller.suspended or scope not in caller.scopes:
            return False
        try:
            self._guard.check_address(caller, context.host)
        except HarkaraError:
            return False
        return True

    async def _take_as_stranger(self, context: RequestContext, host: str) -> None:
        context.decision = await self._limiter.take(f"anonymous:{counted_as(host)}", self._anonymous)
        if not context.decision.allowed:
            raise _too_many(context.decision)

    def _caller(self, headers: dict[bytes, bytes]) -> Caller | None:
        scheme, _, key = headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() != b"bearer" or not key:
            return None
        return self._directory.caller(key.strip().decode("latin-1"), self._unix_time())


def _too_many(decision: Decision) -> RateLimitedError:
    return RateLimitedError(
        f"Only {decision.limit} requests a minute are allowed here. Wait as Retry-After says.", decision
    )
