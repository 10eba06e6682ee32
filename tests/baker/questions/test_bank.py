from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baker.questions import bank as questions_bank

TEXT = """# tea and bread
Do you like tea?

How is bread made?
#rain

Is it raining?
"""

BANKS = st.lists(st.integers(0, 9), max_size=6).map(
    lambda sizes: {f"c{c}": [f"c{c} q{q}" for q in range(size)] for c, size in enumerate(sizes)}
)


def test_a_bank_is_parsed_into_questions_by_category() -> None:
    assert questions_bank.parse(TEXT) == {
        "tea and bread": ["Do you like tea?", "How is bread made?"],
        "rain": ["Is it raining?"],
    }


@pytest.mark.parametrize(
    ("text", "complaint"), [("Who?\n# a", "line 1"), ("# a\nWho?\n\n# a\nWhat?", "line 4.*'a' appears twice")]
)
def test_a_misplaced_line_is_named(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        questions_bank.parse(text)


@given(BANKS, st.integers())
def test_the_first_n_of_a_draw_are_balanced_and_all_of_it_is_the_bank(bank: dict[str, list[str]], seed: int) -> None:
    order = questions_bank.balanced_order(bank, seed)
    assert sorted(order) == sorted(question for questions in bank.values() for question in questions)
    assert questions_bank.balanced_order(bank, seed) == order
    for length in range(len(order) + 1):
        taken = Counter(question.split()[0] for question in order[:length])
        most = max(taken.values(), default=0)
        assert all(taken[category] >= min(most - 1, len(questions)) for category, questions in bank.items())


def test_another_seed_gives_another_order() -> None:
    bank = {"a": [str(i) for i in range(50)]}
    assert questions_bank.balanced_order(bank, 1) != questions_bank.balanced_order(bank, 2)


def test_any_category_may_come_first() -> None:
    bank = {category: [f"{category} {i}" for i in range(3)] for category in "abc"}
    assert {questions_bank.balanced_order(bank, seed)[0][0] for seed in range(40)} == set("abc")
