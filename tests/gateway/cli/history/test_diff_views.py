"""How the parts of a diff look, in text without colours."""

from typing import Any

import pytest

from gateway.cli.history import diff_views


def group(name: str, kl: float, **fields: Any) -> dict[str, Any]:
    return {"kind": "target", "name": name, "questions": 4, "kl": kl, "kl_low": kl / 2, "kl_high": kl * 2,
            "agreement": 0.5, **fields}  # fmt: skip


def shown(capsys: pytest.CaptureFixture[str], part: str, value: Any) -> list[str]:
    getattr(diff_views, f"show_{part}")(value)
    return capsys.readouterr().out.splitlines()


def test_bars_are_as_long_as_the_kl(capsys: pytest.CaptureFixture[str]) -> None:
    groups = [group("talk", 0.5), group("bold\x1b[1m", 0.25), group("", 0.0, kind="neutral", kl_low=None)]
    assert shown(capsys, "stat", groups) == [
        "target talk (4)         KL 0.500  [0.250, 1.000]  agree 50.0%  ++++++++++++++++++++",
        "target bold\\x1b[1m (4)  KL 0.250  [0.125, 0.500]  agree 50.0%  ++++++++++",
        "neutral (4)             KL 0.000                  agree 50.0%",
    ]
    assert shown(capsys, "stat", []) == []


def test_a_patch_shows_both_answers_and_where_they_part(capsys: pytest.CaptureFixture[str]) -> None:
    hunk = {
        "kind": "probe", "group": "mine", "question": "Two\nfruits?", "kl": 0.7,
        "answer_a": "An apple,\x1b[2J plum", "answer_b": "An\u202e orange",
        "parting": {"token": 1, "kl": 3.912, "shared": "An", "a": " apple", "b": " orange"},
    }  # fmt: skip
    same = {**hunk, "parting": None}
    assert shown(capsys, "patch", [hunk, same]) == [
        '@@ probe mine "Two fruits?"  token 1, KL 3.91 @@',
        "- An apple,\\x1b[2J plum",
        "+ An\\u202e orange",
        "",
        '@@ probe mine "Two fruits?"  KL 0.700 @@',
        "  An apple,\\x1b[2J plum",
    ]
    assert shown(capsys, "patch", []) == ["No answer differs."]


def test_tokens_stand_in_two_lists(capsys: pytest.CaptureFixture[str]) -> None:
    likelier = [{"id": 1, "text": " Arr\n", "change": 4.25}, {"id": 2, "text": "ye", "change": 1.0}]
    changes = {"positions": 1200, "likelier": likelier, "less_likely": [{"id": 3, "text": "you", "change": -2.0}]}
    assert shown(capsys, "tokens", changes) == [
        "Over 1,200 positions, expected more and less often:",
        '" Arr\\n"  +4.25  "you"  -2.00',
        '"ye"      +1.00',
    ]


def test_weights_are_a_line_and_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    weights = {
        "modules": 210, "norm": 1.0, "relative_norm": 0.0042, "rank_a": 16, "rank_b": 32, "cosine": 0.081,
        "largest": [{"module": "layers.3.q_proj", "norm": 0.5, "relative_norm": None}],
    }  # fmt: skip
    line = "weights  210 modules, |d|/|W| 0.42%, rank 16 -> 32, cosine 0.08"
    assert shown(capsys, "weights_line", weights) == [line]
    assert shown(capsys, "weights", weights)[2].split() == ["layers.3.q_proj", "0.500"]


def test_a_recipe_is_a_text_diff(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(capsys, "recipe", "--- a\n+++ b\n-old\x1b[2J\n+new") == ["--- a", "+++ b", "-old\\x1b[2J", "+new"]
    assert shown(capsys, "recipe", "") == ["The recipes are the same."]
