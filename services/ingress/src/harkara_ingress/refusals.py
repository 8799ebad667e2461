"""Refusals that tell a client more than a code and words: when to try again, or which fields are wrong."""

from collections.abc import Sequence

from harkara_contracts.errors import ErrorCode, HarkaraError
from harkara_ingress.access.limits import Decision

RETRY_SHORTLY_S = 1.0


class RateLimitedError(HarkaraError):
    """Too much at once; `decision` says of which limit, and when it would have been allowed."""

    def __init__(self, message: str, decision: Decision) -> None:
        super().__init__(ErrorCode.RATE_LIMIT_EXCEEDED, message)
        self.decision = decision


class BusyError(HarkaraError):
    """Too much is under way; another try is worth while after `retry_after_s`."""

    def __init__(self, message: str, retry_after_s: float = RETRY_SHORTLY_S) -> None:
        super().__init__(ErrorCode.UNAVAILABLE, message)
        self.retry_after_s = retry_after_s


class WrongFieldsError(HarkaraError):
    """Fields are wrong; `fields` says of each which it is (`field`) and why (`message`)."""

    def __init__(self, code: ErrorCode, message: str, fields: Sequence[dict[str, str]]) -> None:
        super().__init__(code, message)
        self.fields = tuple(fields)
