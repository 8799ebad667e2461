"""Logs as JSON lines on standard output. Nothing per message at INFO; never a number, a text, a code or a secret."""

import logging
import sys
from datetime import UTC, datetime

import orjson

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


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
            line["exception"] = _safe_traceback(record)
        return orjson.dumps(line, default=str).decode()


def _safe_traceback(record: logging.LogRecord) -> str:
    """Tell where it broke, frame by frame, but not the exception's text: drivers put parameters into it."""
    kind, _, traceback = record.exc_info or (None, None, None)
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
        handler.setFormatter(logging.Formatter(f"%(levelname)s {service} %(name)s: %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # The client library tells every lost connection with a traceback; our callbacks tell it in one line.
    logging.getLogger("nats").setLevel(logging.ERROR)
