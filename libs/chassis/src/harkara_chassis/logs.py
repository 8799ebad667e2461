"""Logs as JSON lines on standard output. Nothing per message at INFO; never a number, a text, a code or a secret."""

import logging
import sys
from datetime import UTC, datetime
from typing import Any

import orjson

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class TextFormatter(logging.Formatter):
    """The same lines for people; like the others without the texts of exceptions."""

    def formatException(self, ei: Any) -> str:  # noqa: N802  # the standard library's name
        return _where_it_broke(ei)


class JsonFormatter(logging.Formatter):
    def __init__(self, service: str, instance: str) -> None:
        super().__init__()
        self._service = service
        self._instance = instance

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "service": self._service,
            "instance": self._instance,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update({name: value for name, value in vars(record).items() if name not in _STANDARD})
        if record.exc_info:
            line["exception"] = _where_it_broke(record.exc_info)
        return orjson.dumps(line, default=str).decode()


def _where_it_broke(exc_info: Any) -> str:
    """Tell where it broke, frame by frame, but not the exception's text: drivers put parameters into it."""
    kind, _, traceback = exc_info
    frames: list[str] = []
    while traceback is not None:
        code = traceback.tb_frame.f_code
        frames.append(f"{code.co_filename}:{traceback.tb_lineno} {code.co_name}")
        traceback = traceback.tb_next
    return f"{kind.__name__ if kind else 'error'} at " + " < ".join(reversed(frames))


def configure_logs(service: str, instance: str, level: str, style: str = "json") -> None:
    handler = logging.StreamHandler(sys.stdout)
    if style == "json":
        handler.setFormatter(JsonFormatter(service, instance))
    else:
        handler.setFormatter(TextFormatter(f"%(levelname)s {service} %(name)s: %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # The client library tells every lost connection with a traceback; our callbacks tell it in one line.
    logging.getLogger("nats").setLevel(logging.ERROR)
