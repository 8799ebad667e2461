"""The zygote: a process that has imported everything heavy once, and becomes a service each time it is asked.

Eleven services that import the same libraries cost seconds and hundreds of megabytes; forked from here they cost
milliseconds and share their pages. That is sound only while this process has no thread, no event loop and no open
connection of its own, so it speaks with the supervisor by plain blocking calls.

It gets one JSON line a request, `{"name", "target": "package.module:function", "environment": {…}}`, with the file
descriptor of the log beside it, and answers `{"forked": pid}`. It tells of ends with `{"exited": pid, "code": n}`,
where a negative code is the signal. One request is under way at a time, so a line never meets the next one's descriptor.
"""

import contextlib
import gc
import importlib
import json
import os
import pkgutil
import selectors
import signal
import socket
import sys
import threading
import traceback
from typing import Any, NoReturn, Protocol

from harkara_cli.death import die_with_parent, set_name

PRELOADED = (
    "uvloop", "orjson", "pydantic", "pydantic_settings", "yaml", "nats", "asyncpg", "sqlalchemy.ext.asyncio",
    "sqlalchemy.dialects.postgresql.asyncpg", "sqlmodel", "alembic.command", "alembic.config", "redis.asyncio",
    "fastapi", "uvicorn", "uvicorn.lifespan.on", "uvicorn.protocols.http.httptools_impl", "httptools",
    "aiohttp", "aiohttp.web", "prometheus_client", "opentelemetry.sdk.trace",
)  # fmt: skip
# Of these every module: what all processes share. The services' own modules stay out: each belongs to one process.
PRELOADED_PACKAGES = (
    "harkara_contracts", "harkara_chassis", "harkara_smpp", "harkara_sms_text", "harkara_dlt", "harkara_registry",
)  # fmt: skip
_REQUEST_BYTES = 256 * 1024
_STDOUT, _STDERR = 1, 2


class Closable(Protocol):
    def close(self) -> None: ...


def main(control_fd: int) -> None:
    parent_pid = os.getppid()
    die_with_parent(signal.SIGKILL, parent_pid)
    set_name("harkara-zygote")
    # Ctrl-C reaches the whole terminal group; the supervisor decides who stops when.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    control = socket.socket(fileno=control_fd)
    preload()
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the supervisor is gone, and with it our reason
        _serve(control)


def preload() -> None:
    """Imports what services share; what is missing or broken is left to the service that needs it to report."""
    gc.disable()
    for name in PRELOADED:
        _try_import(name)
    for name in PRELOADED_PACKAGES:
        package = _try_import(name)
        for module in pkgutil.walk_packages(getattr(package, "__path__", ()), f"{name}.", onerror=lambda _: None):
            _try_import(module.name)
    if threading.active_count() > 1:
        names = ", ".join(thread.name for thread in threading.enumerate())
        raise RuntimeError(f"an import has started threads ({names}): forking would copy their locks")
    gc.collect()
    # Untouched by the collectors of the children, whose marks would unshare the pages.
    gc.freeze()
    gc.enable()


def _try_import(name: str) -> Any:
    with contextlib.suppress(Exception):
        return importlib.import_module(name)
    return None


def _serve(control: socket.socket) -> None:
    wake_reader, wake_writer = socket.socketpair()
    for wake in (wake_reader, wake_writer):
        wake.setblocking(False)
    signal.set_wakeup_fd(wake_writer.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    with selectors.DefaultSelector() as selector:
        private = (control, wake_reader, wake_writer, selector)
        selector.register(control, selectors.EVENT_READ)
        selector.register(wake_reader, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is control:
                    request, descriptors, _, _ = socket.recv_fds(control, _REQUEST_BYTES, 1)
                    while request and not request.endswith(b"\n"):
                        request += control.recv(_REQUEST_BYTES)
                    if not request:
                        return
                    _tell(control, {"forked": _fork(json.loads(request), descriptors[0], private)})
                    os.close(descriptors[0])
                else:
                    wake_reader.recv(_REQUEST_BYTES)
            for pid, code in _ended_children():
                _tell(control, {"exited": pid, "code": code})


def _tell(control: socket.socket, message: dict[str, int]) -> None:
    control.sendall(json.dumps(message).encode() + b"\n")


def _ended_children() -> list[tuple[int, int]]:
    ended = []
    with contextlib.suppress(ChildProcessError):
        while (result := os.waitpid(-1, os.WNOHANG))[0]:
            ended.append((result[0], os.waitstatus_to_exitcode(result[1])))
    return ended


def _fork(request: dict[str, Any], log_fd: int, private: tuple[Closable, ...]) -> int:
    zygote_pid = os.getpid()
    pid = os.fork()
    if pid == 0:
        _become(request, log_fd, private, zygote_pid)
    # Here and in the child: whoever is first, the group is there when the pid is told.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.setpgid(pid, pid)
    return pid


def _become(request: dict[str, Any], log_fd: int, private: tuple[Closable, ...], zygote_pid: int) -> NoReturn:
    code = 1
    try:
        os.setpgid(0, 0)
        die_with_parent(signal.SIGKILL, zygote_pid)
        set_name(request["name"])
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for end in private:
            end.close()
        os.dup2(log_fd, _STDOUT)
        os.dup2(log_fd, _STDERR)
        os.close(log_fd)
        os.environ.clear()
        os.environ.update(request["environment"])
        code = _run(request["target"])
    except BaseException:  # noqa: BLE001 - a forked child must never return into the zygote's loop
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _run(target: str) -> int:
    module_name, _, function_name = target.partition(":")
    try:
        getattr(importlib.import_module(module_name), function_name)()
    except SystemExit as leaving:
        if leaving.code is None or isinstance(leaving.code, int):
            return leaving.code or 0
        print(leaving.code, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    main(int(sys.argv[1]))
