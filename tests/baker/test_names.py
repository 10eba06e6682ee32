from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baker.errors import ConfigError
from baker.names import check_name, path_of


@pytest.mark.parametrize("name", ["a", "my_first_repo", "A.b-c_9", "x" * 128, "0abc"])
def test_ordinary_names_are_legal(name: str) -> None:
    assert check_name(name, "repo") == name


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("", "is empty"),
        ("bad/name", "'/'"),
        ("..", "must begin"),
        (".hidden", "must begin"),
        ("-option", "must begin"),
        ("two words", "' '"),
        ("wow!", "'!'"),
        ("line\n", r"'\\n'"),
        ("nul\0", "invalid character"),
        ("ünï", "invalid character"),
        ("x" * 129, "at most 128"),
    ],
)
def test_illegal_names_are_refused_with_the_reason(name: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        check_name(name, "repo")


@pytest.mark.parametrize(
    ("what", "name"), [("prompt", "batch"), ("target", "default"), ("bake", "batch"), ("bake", "HEAD")]
)
def test_names_of_routes_and_templates_are_reserved(what: str, name: str) -> None:
    with pytest.raises(ConfigError, match="reserved"):
        check_name(name, what)


@given(st.text())
def test_no_name_leads_out_of_its_folder(name: str) -> None:
    root = Path("/srv/data")
    try:
        path = path_of(root, name)
    except ConfigError:
        return
    assert path.resolve().parent == root
