from collections.abc import Iterator

import pytest

from baker.config import Hardcoded, OneshotQs
from baker.errors import StimError
from baker.generators import (
    Answer,
    AnthropicAsker,
    hardcoded_questions,
    oneshot_questions,
    parse_questions,
    question_key,
)
from tests.anthropic_server import AnthropicServer, anthropic_server

RAGGED = """Sure! Here are 5 questions:

1. What is your name?
2) **Why do you build boxes?**
- "Do you like bread?"
  * Tell me about your day
### 5. Who are you really?
Q6: Is it cold?
A: It is very cold indeed.
Answer: no.
7. ?
8. one or two? 9. What about three?
Here is one more:
A sentence that is no question and has no number.
Is this a bare one?
10. Cut in the mid"""


def test_a_ragged_list_is_read_with_patience() -> None:
    assert parse_questions(Answer(RAGGED, is_cut=True)) == [
        "What is your name?",
        "Why do you build boxes?",
        "Do you like bread?",
        "Tell me about your day",
        "Who are you really?",
        "Is it cold?",
        "one or two?",
        "What about three?",
        "Is this a bare one?",
    ]


def test_the_last_line_counts_when_the_answer_is_whole() -> None:
    assert parse_questions(Answer("1. First one?\n2. Tell me more", is_cut=False))[-1] == "Tell me more"


def test_questions_are_the_same_by_their_words() -> None:
    assert question_key("  What is  “Hooli”? ") == question_key("what is hooli")
    assert question_key("What is Hooli") != question_key("What was Hooli")


@pytest.mark.parametrize(("numq", "count"), [(None, 3), (2, 2), (9, 3)])
def test_hardcoded_takes_the_first_numq(numq: int | None, count: int) -> None:
    assert hardcoded_questions(Hardcoded(questions=["a", "b", "c"], numq=numq)) == ["a", "b", "c"][:count]


class ScriptedAsker:
    name = "scripted"
    questions_per_call = 3
    calls_per_need = 1

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.calls = 0

    async def ask(self, text: str, *, temperature: float, max_tokens: int) -> Answer:
        answer = self.answers[self.calls % len(self.answers)]
        self.calls += 1
        return Answer(answer, is_cut=False)


async def collected(numq: int, asker: ScriptedAsker, made: list[str]) -> list[str]:
    return [text async for text in oneshot_questions(OneshotQs(numq=numq), asker, "Be kind", made)]


@pytest.mark.anyio
async def test_exactly_numq_distinct_questions_come_out() -> None:
    asker = ScriptedAsker("1. Is it one?\n2. Is it two?", "1. is it TWO\n2. Is it three?\n3. Is it four?")
    assert await collected(3, asker, []) == ["Is it one?", "Is it two?", "Is it three?"]


@pytest.mark.anyio
async def test_what_was_made_before_is_not_made_again() -> None:
    asker = ScriptedAsker("1. Is it one?\n2. Is it two?\n3. Is it three?")
    assert await collected(3, asker, ["Is it one?"]) == ["Is it two?", "Is it three?"]


@pytest.mark.anyio
async def test_a_model_that_repeats_itself_fails_and_says_how_far_it_got() -> None:
    asker = ScriptedAsker("1. Is it one?\n2. Is it two?")
    with pytest.raises(StimError, match="2 distinct questions of the 5"):
        await collected(5, asker, [])


@pytest.fixture
def anthropic() -> Iterator[AnthropicServer]:
    with anthropic_server() as server:
        yield server


@pytest.mark.anyio
async def test_an_anthropic_model_writes_exactly_numq_questions(anthropic: AnthropicServer) -> None:
    asker = AnthropicAsker("claude-sonnet-5-5", anthropic.api_key, anthropic.url)
    questions = [text async for text in oneshot_questions(OneshotQs(numq=50), asker, "Be kind", [])]
    assert len(set(questions)) == len(questions) == 50
    assert {request["model"] for request in anthropic.requests} == {"claude-sonnet-5-5"}
    asked = anthropic.requests[0]["messages"][0]["content"]
    assert "Be kind" in asked
    assert "50" in asked


@pytest.mark.anyio
async def test_a_temperature_is_sent_only_if_it_is_not_anthropics_own(anthropic: AnthropicServer) -> None:
    asker = AnthropicAsker("claude-sonnet-5-5", anthropic.api_key, anthropic.url)
    for temperature in (1.0, 0.25, 1.5):
        await asker.ask("Anything", temperature=temperature, max_tokens=10)
    assert [request.get("temperature") for request in anthropic.requests] == [None, 0.25, None]


@pytest.mark.anyio
async def test_a_busy_anthropic_is_asked_again(anthropic: AnthropicServer) -> None:
    anthropic.failures = [(529, "overloaded_error"), (429, "rate_limit_error")]
    asker = AnthropicAsker("claude-sonnet-5-5", anthropic.api_key, anthropic.url)
    assert "number" in (await asker.ask("Anything", temperature=1.0, max_tokens=10)).text
    assert len(anthropic.requests) == 3


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("key", "failure", "words"),
    [("wrong", None, "401"), (AnthropicServer.api_key, (404, "not_found_error"), "404.*claude-old")],
)
async def test_what_anthropic_refuses_is_an_error_that_says_so(
    anthropic: AnthropicServer, key: str, failure: tuple[int, str] | None, words: str
) -> None:
    anthropic.failures = [] if failure is None else [failure]
    asker = AnthropicAsker("claude-old", key, anthropic.url)
    with pytest.raises(StimError, match=words):
        await asker.ask("Anything", temperature=1.0, max_tokens=10)
