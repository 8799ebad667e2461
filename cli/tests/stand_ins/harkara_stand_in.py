"""A stand-in for every service and the simulator: a small HTTP server that keeps the conventions.

It refuses to start when its environment is not what the convention promises. Files beside the home steer it:
`<name>.deaf` makes it ignore SIGTERM, `api.fail` names a path of the API that fails.
"""

import base64
import json
import os
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

Json = dict[str, Any]
HOME = Path(os.environ.get("HARKARA_HOME", "/nonexistent"))
STEERING = HOME.parent
STATE = HOME / "stand-in-state.json"


def main(name: str) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN if (STEERING / f"{name}.deaf").exists() else lambda *_: os._exit(0))
    print(json.dumps({"level": "INFO", "message": f"{name} starts"}), flush=True)
    if name == "smsc":
        serve(int(os.environ["HARKARA_SMSC_HTTP_PORT"]), {"/stats": 200})
        return
    check_environment(name)
    if name == "ingress":
        port = int(os.environ["HARKARA_HTTP_PORT"])
        threading.Thread(target=serve, args=(port, {}, AccountApi), daemon=True).start()
    serve(int(os.environ["HARKARA_ADMIN_PORT"]), {"/readyz": 200, "/startz": 200, "/healthz": 200, "/metrics": 200})


def check_environment(name: str) -> None:
    assert len(base64.b64decode(os.environ["HARKARA_SECRET_KEY"])) == 32
    assert urlsplit(os.environ["HARKARA_DATABASE_URL"]).username == name.replace("-", "_")
    assert os.environ["HARKARA_NATS_URL"].startswith("nats://")
    assert os.environ["HARKARA_REDIS_URL"].startswith("redis://")
    assert not {"NATS_URL", "REDIS_URL", "DATABASE_URL"} & set(os.environ)
    assert ("HARKARA_OPERATOR_KEY" in os.environ) == (name == "ingress")
    assert not any("key" in word.lower() or "password" in word.lower() for word in sys.argv)
    if name in {"routing", "sms-sender"}:
        assert Path(os.environ["HARKARA_CARRIERS_FILE"]).exists()


def serve(port: int, paths: dict[str, int], handler: type[BaseHTTPRequestHandler] | None = None) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(paths.get(self.path, 404))
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    ThreadingHTTPServer(("127.0.0.1", port), handler or Handler).serve_forever()


class AccountApi(BaseHTTPRequestHandler):
    """Accounts and their registry, in a file, so that it survives a restart. `<home>/api.fail` names a path that fails."""

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        state = load()
        if self.path == "/v1/account/balance":
            self.answer(200 if self.key() in state["keys"] else 401, {"error_code": "ERR_UNAUTHORIZED"})
        elif self.path.startswith("/v1/accounts/"):
            self.answer(200, {"account_id": self.path.rpartition("/")[2]})
        else:
            self.answer(404, {"error_code": "ERR_NOT_FOUND"})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        state = load()
        fail = STEERING / "api.fail"
        if fail.exists() and fail.read_text() == self.path:
            self.answer(422, {"error_code": "ERR_TEST", "error_message": "told to fail"})
            return
        state["calls"].append(self.path)
        code, answer = self.post(state, body)
        STATE.write_text(json.dumps(state))
        self.answer(code, answer)

    def post(self, state: Json, body: Json) -> tuple[int, Json]:
        if self.path == "/v1/accounts" or self.path.endswith("/topups"):
            if self.key() != os.environ["HARKARA_OPERATOR_KEY"]:
                return 403, {"error_code": "ERR_FORBIDDEN"}
            if self.path.endswith("/topups"):
                return 200, {"balance_paise": body["amount_paise"]}
            key = f"hk_{len(state['keys'])}"
            state["keys"].append(key)
            return 200, {"account_id": f"acc_{key}", "api_key": key, "signing_secret": "s" * 32}
        if self.key() not in state["keys"]:
            return 401, {"error_code": "ERR_UNAUTHORIZED"}
        name = body.get("template_id") or body.get("sender") or body.get("entity_id")
        entry = [self.key(), self.path, name]
        if entry in state["entries"]:
            return 409, {"error_code": "ERR_CONFLICT"}
        state["entries"].append(entry)
        return 200, {"status": "approved"}

    def key(self) -> str:
        return self.headers["Authorization"].removeprefix("Bearer ")

    def answer(self, code: int, body: Json) -> None:
        data = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def load() -> Json:
    return json.loads(STATE.read_text()) if STATE.exists() else {"keys": [], "entries": [], "calls": []}
