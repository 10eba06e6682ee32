"""`bread models`."""

import json

from tests.gateway.cli.conftest import Bread


def test_the_base_model_is_listed(bread: Bread) -> None:
    header, row = bread("models").out.splitlines()
    assert header.split() == ["MODEL", "VERSION", "MADE", "FROM"]
    assert row.startswith("fake/base  base model  ")
    assert json.loads(bread("models", "--json").out)["data"][0]["id"] == "fake/base"
    assert bread("models", "hooli").out.split() == header.split()
