"""One line in the log for each model request, and how lines of the log are written."""

import json
import logging
from typing import Any

from gateway.inference.model_request import ModelRequest, Outcome

log = logging.getLogger(__name__)

MAX_PROMPT = 10_000
"""Characters of a prompt that are logged, if the operator wants prompts in the log at all."""


class RequestLog:
    def __init__(self, *, with_prompts: bool) -> None:
        self._with_prompts = with_prompts

    def write(self, exchange: ModelRequest, outcome: Outcome) -> None:
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
