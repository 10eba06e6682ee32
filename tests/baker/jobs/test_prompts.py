"""The prompts that a job copies."""

import pytest

from baker.errors import InvalidInputError
from baker.jobs.prompts import prompts_of
from baker.repos import targets
from baker.repos.catalog import Catalog
from baker.status import Stage
from baker.types import Prompt
from tests.baker.repos.filled import LOUD, USER, put_target, start


def test_a_missing_prompt_is_named_with_those_that_there_are(filled: Catalog) -> None:
    put_target(filled, "typo", u="lowd")
    with pytest.raises(InvalidInputError, match=r"'lowd'.*'loud', 'plain'"):
        start(filled, Stage.STIM, "typo")
    put_target(filled, "half", v=None)
    with pytest.raises(InvalidInputError, match="no student_prompt"):
        start(filled, Stage.STIM, "half")


def test_an_empty_name_means_no_prompt(filled: Catalog) -> None:
    put_target(filled, "bare", v="")
    config = targets.get(filled, USER, "repo", "bare")
    assert prompts_of(filled, USER, "repo", "bare", config) == (LOUD, Prompt())
