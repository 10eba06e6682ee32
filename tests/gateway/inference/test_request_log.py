"""The log line of a model request."""

import json
import logging
from collections.abc import Callable

import pytest

from gateway.inference.model_request import Outcome
from gateway.inference.request_log import MAX_PROMPT, RequestLog
from gateway.services import Services
from tests.gateway.inference.scripted import CHAT, logged_fields, new_model_request, post

pytestmark = pytest.mark.anyio


async def test_a_request_is_one_line_in_the_log_without_its_prompt(
    app_with: Callable[..., Services], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "gateway.request_log")
    answer = await post(app_with(), CHAT | {"stream": True}, **{"X-Request-Id": "mine:1"})
    (line,) = logged_fields(caplog)
    assert line.pop("duration_ms") >= line.pop("ttft_ms") >= 0
    assert line == {
        "id": "mine:1",
        "route": "/v1/chat/completions",
        "user": "admin",
        "key": "master",
        "model": "fake/base",
        "served": "fake/base",
        "prompt_tokens": 3,
        "completion_tokens": 2,
        "outcome": "ok",
        "status": 200,
    }
    assert answer.headers["x-request-id"] == "mine:1"


async def test_prompts_are_logged_if_the_operator_wants_them(
    app_with: Callable[..., Services], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "gateway.request_log")
    await post(app_with(log_prompts="on"), CHAT)
    assert json.loads(logged_fields(caplog)[0]["prompt"]) == {"messages": CHAT["messages"]}


def test_a_long_prompt_is_cut(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "gateway.request_log")
    model_request = new_model_request()
    model_request.prompt = {"prompt": "é" * MAX_PROMPT}
    RequestLog(with_prompts=True).write(model_request, Outcome.OK)
    (fields,) = logged_fields(caplog)
    assert fields["prompt"] == '{"prompt": "' + "é" * (MAX_PROMPT - len('{"prompt": "'))
    assert fields["prompt_tokens"] is None, "no tokens were counted"


def test_without_the_info_level_nothing_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "gateway.request_log")
    RequestLog(with_prompts=True).write(new_model_request(), Outcome.OK)
    assert logged_fields(caplog) == []
