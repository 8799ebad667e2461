"""A client that follows its events as EventSource does: one connection, and another one behind the last id it had."""

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

from tests.e2e.client import Client
from tests.e2e.waiting import eventually

_RETRY_S = 0.1
_SILENCE_S = 30.0  # the edge shows a sign of life more often


class Told(NamedTuple):
    """An event as it was read; `raw` is the body as it came."""

    id: str
    name: str
    raw: str

    @property
    def body(self) -> dict[str, Any]:
        body: dict[str, Any] = json.loads(self.raw)
        return body


@dataclass
class Follower:
    """What each of its connections brought, in order."""

    client: Client
    query: dict[str, str]
    connections: list[list[Told]] = field(default_factory=list)
    last_id: str | None = None
    _stopped: threading.Event = field(default_factory=threading.Event)
    _socket: socket.socket | None = None

    def told(self) -> list[Told]:
        return [one for connection in list(self.connections) for one in list(connection)]

    def has(self, *wanted: tuple[str, str]) -> bool:
        """Tell whether these events, each a name and a message id, were all read."""
        return {(one.name, one.body["message_id"]) for one in self.told()} >= set(wanted)

    def run(self) -> None:
        while not self._stopped.is_set():
            with suppress(OSError, http.client.HTTPException):
                self._follow()
            self._stopped.wait(_RETRY_S)

    def stop(self) -> None:
        self._stopped.set()
        if self._socket is not None:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def _follow(self) -> None:
        connection = http.client.HTTPConnection(urlsplit(self.client.base_url).netloc, timeout=_SILENCE_S)
        headers = {"Authorization": f"Bearer {self.client.key}"}
        if self.last_id is not None:
            headers["Last-Event-ID"] = self.last_id
        try:
            connection.connect()
            self._socket = connection.sock
            connection.request("GET", f"/v1/events?{urlencode(self.query)}", headers=headers)
            response = connection.getresponse()
            if response.status == 200:
                self._read(response)
        finally:
            connection.close()

    def _read(self, response: http.client.HTTPResponse) -> None:
        events: list[Told] = []
        self.connections.append(events)
        fields: dict[str, str] = {}
        while line := response.readline():
            name, _, value = line.decode().rstrip("\n").partition(": ")
            if name:
                fields[name] = value
            elif "data" in fields:
                events.append(Told(fields["id"], fields["event"], fields["data"]))
                self.last_id = fields["id"]
                fields = {}


@contextmanager
def following(client: Client, **query: str) -> Iterator[Follower]:
    """Follow from now on, until the body ends."""
    follower = Follower(client, query)
    thread = threading.Thread(target=follower.run, name="follower")
    thread.start()
    try:
        eventually(lambda: follower.connections, what="an open stream of events")
        yield follower
    finally:
        follower.stop()
        thread.join()
