"""A small client of the platform's public HTTP API, for the few calls that the command line makes."""

import http.client
import json
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from harkara_cli.errors import HarkaraError

_TIMEOUT_S = 15.0
_RETRY_EVERY_S = 0.1
# What an edge that has just started, or whose neighbour has, may answer.
_TRANSIENT = frozenset({500, 502, 503, 504})


class ApiError(HarkaraError):
    """The API refused; `status` is HTTP's, `code` one of the platform's error codes."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(f"The API answered {status} {code}: {message}")
        self.status = status
        self.code = code


@dataclass(frozen=True)
class Api:
    """Calls `base_url` with one key; transient failures are tried again for `patience_s`."""

    base_url: str
    key: str = field(repr=False)
    patience_s: float = 0.0

    def get(self, path: str) -> Any:
        return self._call("GET", path, None, {})

    def post(self, path: str, body: dict[str, Any], *, idempotency_key: str | None = None) -> Any:
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        return self._call("POST", path, body, headers)

    def _call(self, method: str, path: str, body: dict[str, Any] | None, headers: dict[str, str]) -> Any:
        deadline = time.monotonic() + self.patience_s
        while True:
            try:
                return self._call_once(method, path, body, headers)
            except ApiError as error:
                if error.status not in _TRANSIENT or time.monotonic() > deadline:
                    raise
            except (OSError, http.client.HTTPException) as error:
                if time.monotonic() > deadline:
                    raise HarkaraError(f"{self.base_url} does not answer ({error}): is the stack running?") from error
            time.sleep(_RETRY_EVERY_S)

    def _call_once(self, method: str, path: str, body: dict[str, Any] | None, headers: dict[str, str]) -> Any:
        address = urlsplit(self.base_url)
        connection = http.client.HTTPConnection(address.netloc, timeout=_TIMEOUT_S)
        try:
            connection.request(
                method,
                path,
                body=None if body is None else json.dumps(body),
                headers={"Authorization": f"Bearer {self.key}", "Content-Type": "application/json", **headers},
            )
            response = connection.getresponse()
            text = response.read()
        finally:
            connection.close()
        try:
            answer = json.loads(text) if text else {}
        except ValueError:
            answer = {}
        if response.status >= http.client.BAD_REQUEST:
            details = answer if isinstance(answer, dict) else {}
            raise ApiError(
                response.status, str(details.get("error_code", "")), str(details.get("error_message", response.reason))
            )
        return answer
