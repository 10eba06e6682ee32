"""`bread init`."""

import json

from tests.gateway.cli.conftest import Bread


def test_it_creates_a_repo_and_makes_it_the_current_one(bread: Bread) -> None:
    bread("init", "other")
    code, out, _ = bread("init", "hooli")
    assert (code, out) == (0, "hooli is the current repo. Base model: fake/base\n")
    assert bread.session().repo() == "hooli"
    assert json.loads(bread("init", "hooli", "--json").out) == {"repo_name": "hooli", "base_model": "fake/base"}
    assert bread("init", "hooli", "--base-model", "an/other").code == 3
    assert bread("init", "a/b").code == 2
