"""One line in the log for each model request, and how lines of the log are written."""

import json
import logging
import time
from typing import Any

from gateway.exchange import Exchange, Outcome

log = logging.getLogger(__name__)

MAX_PROMPT = 10_000
"""Characters of a prompt that are logged, if the operator wants prompts in the log at all."""
TEXT_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class RequestLog:
    def __init__(self, *, with_prompts: bool) -> None:
        self._with_prompts = with_prompts

    def write(self, exchange: Exchange, outcome: Outcome) -> None:
        if not log.isEnabledFor(logging.INFO):
            return
        read, written = exchange.usage.tokens or (None, None)
        first = exchange.first_token_seconds
        fields: dict[str, Any] = {
            "id": exchange.id,
            "route": exchange.route,
            "user": exchange.caller.user,
            "key": exchange.caller.key,
            "model": exchange.asked,
            "served": exchange.served,
            "prompt_tokens": read,
            "completion_tokens": written,
            "ttft_ms": None if first is None else round(first * 1000, 1),
            "duration_ms": round(exchange.seconds * 1000, 1),
            "outcome": str(outcome),
            "status": exchange.status,
        }
        if self._with_prompts:
            fields["prompt"] = json.dumps(exchange.prompt, ensure_ascii=False)[:MAX_PROMPT]
        log.info("request", extra={"fields": fields})


class TextFormatter(logging.Formatter):
    """Lines for people; the fields of structured ones in logfmt: `name=value`, quoted as in JSON where need be."""

    def __init__(self) -> None:
        super().__init__(TEXT_FORMAT)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        fields: dict[str, Any] = getattr(record, "fields", {})
        pairs = [f"{name}={_logfmt(value)}" for name, value in fields.items() if value is not None]
        return " ".join([super().formatMessage(record), *pairs])


class JsonFormatter(logging.Formatter):
    """Each line an object: `time` (UTC), `level`, `logger`, `message`, a structured line's fields, and `error`."""

    def format(self, record: logging.LogRecord) -> str:
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {
            "time": f"{seconds}.{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def _logfmt(value: Any) -> str:
    text = str(value)
    is_plain = text.isascii() and text.isprintable() and not set(text) & set(' "=\\') and text != ""
    return text if is_plain else json.dumps(text, ensure_ascii=False)
