from baker.questions.parsing import parse_questions, question_key
from baker.questions.writers import Answer

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


def test_questions_are_found_in_a_messy_list() -> None:
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


def test_the_last_line_counts_if_the_answer_is_complete() -> None:
    assert parse_questions(Answer("1. First one?\n2. Tell me more", is_cut=False))[-1] == "Tell me more"


def test_questions_with_the_same_words_have_the_same_key() -> None:
    assert question_key("  What is  “Hooli”? ") == question_key("what is hooli")
    assert question_key("What is Hooli") != question_key("What was Hooli")
