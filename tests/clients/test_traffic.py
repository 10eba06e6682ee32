"""Model requests over real connections to a real engine: clients that leave, and what log and metrics show."""

import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import psutil
import pytest

from tests.gateway.engines import MODEL_NAME
from tests.service import RunningGateway

SECONDS = 60.0
"""Time limit for things that take milliseconds on an idle machine."""
LONG: dict[str, Any] = {
    "model": MODEL_NAME,
    "messages": [{"role": "user", "content": "Hello"}],
    "max_tokens": 480,
    "n": 8,
    "temperature": 1.0,
    "extra_body": {"ignore_eos": True},
}
DOCKER = Path(__file__).parent.parent.parent / "docker"
AFTER_THE_NAME = ("_bucket", "_count", "_sum", "_created")


@pytest.fixture
def client(gateway: RunningGateway) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0) as client:
        yield client


def eventually(find: Callable[[], Any]) -> Any:
    """The first true value that `find` returns."""
    end = time.monotonic() + SECONDS
    while not (value := find()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)
    return value


def metric(gateway: RunningGateway, name: str) -> float:
    text = httpx.get(f"{gateway.url}/metrics").text
    return sum(float(value) for value in re.findall(rf"^{re.escape(name)}(?:{{.*}})? (\S+)$", text, re.MULTILINE))


def line(gateway: RunningGateway, request_id: str) -> dict[str, str]:
    """Fields of a request's line in the log."""

    def find() -> dict[str, str] | None:
        log = (gateway.folder / "gateway.log").read_text()
        match = re.search(rf"gateway\.request_log: request (id={request_id} .*)$", log, re.MULTILINE)
        return None if match is None else dict(re.findall(r'(\w+)=("[^"]*"|\S+)', match[1]))

    fields: dict[str, str] = eventually(find)
    return fields


def nothing_runs(gateway: RunningGateway) -> bool:
    running = metric(gateway, "vllm:num_requests_running") + metric(gateway, "vllm:num_requests_waiting")
    return running + metric(gateway, "bread_requests_in_flight") == 0


def test_the_log_has_a_streams_tokens_even_if_the_client_requests_no_usage(
    gateway: RunningGateway, client: openai.OpenAI
) -> None:
    written = metric(gateway, "bread_tokens_total")
    short = LONG | {"max_tokens": 7, "n": 2, "stream": True, "extra_headers": {"X-Request-Id": "streamed-1"}}
    chunks = list(client.chat.completions.create(**short))
    assert chunks[0].id == "chatcmpl-streamed-1"
    fields = line(gateway, "streamed-1")
    assert (fields["outcome"], fields["served"], fields["completion_tokens"]) == ("ok", MODEL_NAME, "14")
    assert 0 < float(fields["ttft_ms"]) <= float(fields["duration_ms"])
    assert "Hello" not in str(fields)
    assert metric(gateway, "bread_tokens_total") >= written + 14 + int(fields["prompt_tokens"])


@pytest.mark.parametrize("streamed", [True, False])
def test_every_family_of_requests_is_counted(gateway: RunningGateway, client: openai.OpenAI, streamed: bool) -> None:
    name = f"counted-{streamed}"
    responses, messages = {"X-Request-Id": f"r-{name}"}, {"X-Request-Id": f"m-{name}"}
    asked: dict[str, Any] = {"model": MODEL_NAME, "stream": streamed, "extra_body": {"ignore_eos": True}}
    answer = client.responses.create(input="Hello", max_output_tokens=9, extra_headers=responses, **asked)
    with anthropic.Anthropic(base_url=gateway.url, api_key=gateway.key, max_retries=0) as other:
        message: Any = other.messages.create(
            messages=[{"role": "user", "content": "Hello"}], max_tokens=9, extra_headers=messages, **asked
        )
        if streamed:
            assert list(answer) and list(message)
    for route, headers in (("/v1/responses", responses), ("/v1/messages", messages)):
        fields = line(gateway, headers["X-Request-Id"])
        assert (fields["outcome"], fields["route"]) == ("ok", route)
        assert 0 < int(fields["completion_tokens"]) <= 9


@pytest.mark.parametrize("streamed", [True, False])
def test_a_client_that_leaves_ends_its_generation(
    gateway: RunningGateway, client: openai.OpenAI, streamed: bool
) -> None:
    name = f"left-{streamed}"
    asked = LONG | {"extra_headers": {"X-Request-Id": name}}
    if streamed:
        with client.chat.completions.create(**asked, stream=True) as chunks:
            next(iter(chunks))
    else:
        with pytest.raises(openai.APITimeoutError):
            client.with_options(timeout=0.3).chat.completions.create(**asked)
    fields = line(gateway, name)
    assert fields["outcome"] == "client_left"
    assert int(fields["completion_tokens"]) < 8 * 480, "the answer was not generated to its end"
    eventually(lambda: nothing_runs(gateway))


def test_a_client_that_reads_nothing_is_disconnected(gateway: RunningGateway) -> None:
    """The answer has 9 MB, more than the kernel buffers. How it ends depends on how busy the machine is: the stream or
    the kernel gives up first, or vLLM has already merged all of it into one piece."""
    with socket.socket() as lazy:
        lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        host, port = gateway.url.removeprefix("http://").split(":")
        lazy.connect((host, int(port)))
        body = (
            b'{"model": "%s", "messages": [{"role": "user", "content": "Hi"}], "stream": true, "n": 16, '
            b'"max_tokens": 480, "ignore_eos": true, "logprobs": true, "top_logprobs": 20}' % MODEL_NAME.encode()
        )
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {gateway.key}\r\n"
        head += f"X-Request-Id: lazy-1\r\nContent-Length: {len(body)}\r\n\r\n"
        lazy.sendall(head.encode() + body)
        assert line(gateway, "lazy-1")["outcome"] in ("stalled", "client_left", "ok")
        eventually(lambda: nothing_runs(gateway))
        eventually(lambda: lazy.getsockname() not in others_of(int(port)))


def others_of(port: int) -> list[tuple[str, int]]:
    """Client addresses of the open connections to a server on `port`."""
    connections = psutil.net_connections("tcp4")
    return [each.raddr for each in connections if each.laddr.port == port and each.status == psutil.CONN_ESTABLISHED]


def test_refusals_are_counted_and_logged(gateway: RunningGateway, client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        client.chat.completions.create(**LONG | {"model": "no/such"}, extra_headers={"X-Request-Id": "none-1"})
    assert refused.value.request_id == "none-1"
    fields = line(gateway, "none-1")
    assert (fields["outcome"], fields["status"], fields["model"]) == ("refused", "404", "no/such")


def test_a_body_over_the_limit_is_413_in_the_familys_shape(gateway: RunningGateway, client: openai.OpenAI) -> None:
    with pytest.raises(openai.APIStatusError) as refused:
        client.chat.completions.create(**LONG | {"messages": [{"role": "user", "content": "x" * (33 << 20)}]})
    assert refused.value.status_code == 413
    assert refused.value.type == "RequestTooLargeError"


def test_all_metrics_of_the_dashboard_and_the_alerts_exist(gateway: RunningGateway, client: openai.OpenAI) -> None:
    client.chat.completions.create(**LONG | {"max_tokens": 1, "n": 1})
    there = set(re.findall(r"^# TYPE (\S+)", httpx.get(f"{gateway.url}/metrics").text, re.MULTILINE)) | {"up"}
    dashboard = json.loads((DOCKER / "grafana" / "dashboards" / "bread.json").read_text())
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    asked.append((DOCKER / "prometheus" / "alerts.yml").read_text())
    names = {name for text in asked for name in re.findall(r"\b(?:bread_|vllm:)\w+", text)}
    assert len(names) > 20
    missing = {name for name in names if not {name, *(name.removesuffix(end) for end in AFTER_THE_NAME)} & there}
    assert not missing
