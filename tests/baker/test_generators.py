import pytest

from baker.config import Hardcoded, OneshotQs
from baker.errors import StimError
from baker.generators import Answer, hardcoded_questions, oneshot_questions, parse_questions, question_key

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
8. one two? 9. What about three?
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
        "one two?",
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
