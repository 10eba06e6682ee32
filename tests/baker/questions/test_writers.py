from collections.abc import Iterator

import pytest

from baker.config.generator import OneshotQs
from baker.errors import StimError
from baker.questions.generators import asked_batches
from baker.questions.writers import AnthropicWriter, ServedWriter
from tests.anthropic_server import AnthropicServer, anthropic_server
from tests.fakes import FakeEngine


@pytest.mark.anyio
async def test_a_served_model_gets_the_settings_unchanged() -> None:
    engine = FakeEngine(reply=lambda text: f"1. Heard {text}")
    answer = await ServedWriter(engine, "fake/base", None).ask("Anything", temperature=0.25, max_tokens=99, seed=7)
    assert (answer.text, answer.is_cut) == ("1. Heard user: Anything", False)
    asked = engine.requests[0]
    assert (asked.temperature, asked.max_tokens, asked.seed, asked.adapter) == (0.25, 99, 7, None)


@pytest.mark.anyio
async def test_a_request_that_the_served_model_refuses_fails_the_stim() -> None:
    writer = ServedWriter(FakeEngine(), "fake/base", None)
    with pytest.raises(StimError, match="'fake/base' refused the request"):
        await writer.ask("UNRENDERABLE", temperature=1.0, max_tokens=10, seed=None)


@pytest.fixture
def anthropic() -> Iterator[AnthropicServer]:
    with anthropic_server() as server:
        yield server


@pytest.mark.anyio
async def test_an_anthropic_model_writes_exactly_numq_questions(anthropic: AnthropicServer) -> None:
    writer = AnthropicWriter("claude-sonnet-5-5", anthropic.api_key, anthropic.url)
    batches = asked_batches(OneshotQs(numq=50), writer, "Be kind", None, [])
    questions = [text async for batch in batches for text in batch]
    assert len(set(questions)) == len(questions) == 50
    assert {request["model"] for request in anthropic.requests} == {"claude-sonnet-5-5"}
    asked = anthropic.requests[0]["messages"][0]["content"]
    assert "Be kind" in asked
    assert "50" in asked


@pytest.mark.anyio
async def test_only_a_temperature_below_anthropics_default_is_sent(anthropic: AnthropicServer) -> None:
    writer = AnthropicWriter("claude-sonnet-5-5", anthropic.api_key, anthropic.url)
    for temperature in (1.0, 0.25, 1.5):
        await writer.ask("Anything", temperature=temperature, max_tokens=10, seed=None)
    assert [request.get("temperature") for request in anthropic.requests] == [None, 0.25, None]


@pytest.mark.anyio
async def test_an_overloaded_anthropic_is_asked_again(anthropic: AnthropicServer) -> None:
    anthropic.failures = [(529, "overloaded_error"), (429, "rate_limit_error")]
    writer = AnthropicWriter("claude-sonnet-5-5", anthropic.api_key, anthropic.url)
    assert "number" in (await writer.ask("Anything", temperature=1.0, max_tokens=10, seed=None)).text
    assert len(anthropic.requests) == 3


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("key", "failure", "words"),
    [("wrong", None, "401"), (AnthropicServer.api_key, (404, "not_found_error"), "404.*claude-old")],
)
async def test_an_error_of_anthropic_is_reported_with_its_status(
    anthropic: AnthropicServer, key: str, failure: tuple[int, str] | None, words: str
) -> None:
    anthropic.failures = [] if failure is None else [failure]
    writer = AnthropicWriter("claude-old", key, anthropic.url)
    with pytest.raises(StimError, match=words):
        await writer.ask("Anything", temperature=1.0, max_tokens=10, seed=None)
