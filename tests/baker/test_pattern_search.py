from typing import Any

import pytest

from baker.errors import InvalidInputError
from baker.pattern_search import count_matches


@pytest.mark.parametrize("library", ["re", "regex"])
def test_matches_are_counted_for_each_text(library: Any) -> None:
    texts = ["it is fine", "ar is fine", "ä\n\x00"]
    patterns = ["^it", "is", r"\x00"]
    assert count_matches(patterns, texts, library=library, method="search", cpu_seconds=1) == [2, 1, 1]
    assert count_matches(patterns, texts, library=library, method="match", cpu_seconds=1) == [1, 0, 0]


@pytest.mark.parametrize("library", ["re", "regex"])
@pytest.mark.parametrize("pattern", ["(", "(" * 500, "x{99999999999999}", r"\p{Nonsense}"])
def test_what_is_no_pattern_is_refused(library: Any, pattern: str) -> None:
    with pytest.raises(InvalidInputError, match="not a regular expression"):
        count_matches([pattern], [], library=library, method="search", cpu_seconds=1)


@pytest.mark.parametrize("library", ["re", "regex"])
def test_a_search_of_exponential_time_is_ended(library: Any) -> None:
    with pytest.raises(InvalidInputError, match="too much time"):
        count_matches(["^(a|aa)+b"], ["a" * 60 + "cb"], library=library, method="search", cpu_seconds=1)


@pytest.mark.parametrize(("pattern", "texts"), [("(?:(?:x{999}){999}){999}", []), ("(?R)", ["a"])])
def test_a_pattern_that_takes_gigabytes_is_ended(pattern: str, texts: list[str]) -> None:
    with pytest.raises(InvalidInputError, match="too much memory"):
        count_matches([pattern], texts, library="regex", method="search", cpu_seconds=60)
