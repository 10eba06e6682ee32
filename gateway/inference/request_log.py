"""One line in the log for each model request."""

import json
import logging
from typing import Any

from gateway.inference.model_request import ModelRequest, Outcome

log = logging.getLogger("gateway.request_log")  # operators filter by this name, wherever the module is

MAX_PROMPT = 10_000
"""Characters of a prompt that are logged, if --log-prompts is on."""


class RequestLog:
    def __init__(self, *, with_prompts: bool) -> None:
        self._with_prompts = with_prompts

    def write(self, model_request: ModelRequest, outcome: Outcome) -> None:
        if not log.isEnabledFor(logging.INFO):
            return
        prompt_tokens, completion_tokens = model_request.usage.tokens or (None, None)
        first_token = model_request.first_token_seconds
        fields: dict[str, Any] = {
            "id": model_request.id,
            "route": model_request.route,
            "user": model_request.caller.user,
            "key": model_request.caller.key,
            "model": model_request.requested_model,
            "served": model_request.served_model,
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "ttft_ms": None if first_token is None else round(first_token * 1000, 1),
            "duration_ms": round(model_request.seconds * 1000, 1),
            "outcome": str(outcome),
            "status": model_request.status,
        }
        if self._with_prompts:
            fields["prompt"] = json.dumps(model_request.prompt, ensure_ascii=False)[:MAX_PROMPT]
        log.info("request", extra={"fields": fields})
