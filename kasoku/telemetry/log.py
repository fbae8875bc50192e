"""The server's own log, on standard error: text for who reads it, or JSON, an object a line, for who collects it."""

import logging
import sys
from datetime import UTC, datetime

import msgspec

EVENTS = logging.getLogger("kasoku.events")
"""Each decision of the platform; only where lines are collected, since `kasoku events` shows them."""
FIELDS = ("requestId", "function", "event")
"""What a line may say beyond its message, by `extra`."""


class JsonLines(logging.Formatter):
    """See the module."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line: dict[str, object] = {
            "time": at,
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        for field in FIELDS:
            if (value := getattr(record, field, None)) is not None:
                line[field] = value
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode()


def set_up(*, json: bool) -> None:
    """Every module's lines go to standard error from now on: what was decided (as JSON only), warnings and errors."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if json else logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    EVENTS.setLevel(logging.INFO if json else logging.WARNING)
