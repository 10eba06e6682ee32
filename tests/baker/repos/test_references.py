from typing import Any

import pytest

from baker.config.bake import bake_config
from baker.config.target import target_config
from baker.repos.catalog import Catalog
from baker.repos.references import bake_warnings, target_warnings
from tests.baker.repos.filled import USER, filled

__all__ = ["filled"]  # a fixture


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ({"u": "loud", "v": ""}, None),
        ({"u": "lout"}, "teacher_prompt: Prompt 'lout' not found in repo 'repo'; did you mean 'loud'?"),
        ({"v": "xyz"}, "student_prompt: Prompt 'xyz' not found in repo 'repo'"),
        ({"model_name": "repo/gone"}, "model_name: Model 'repo/gone' is not served here"),
        (
            {"generators": [{"type": "oneshot_qs", "model": "repo/gone"}]},
            "generators[0].model: Model 'repo/gone' is not served here",
        ),
        ({"generators": [{"type": "oneshot_qs", "model": "claude-x"}]}, None),
        (
            {"generators": [{"type": "hardcoded"}, {"type": "custom", "template_path": "a/q.txt"}]},
            "generators[1].template_path: Template 'a/q.txt' not found in repo 'repo'",
        ),
        ({"generators": [{"type": "hardcoded", "dataset": "x"}]}, "generators[0] is hardcoded: dataset has no effect"),
    ],
)
def test_a_target_s_missing_names_and_idle_settings_are_warned_about(
    filled: Catalog, overrides: dict[str, Any], expected: str | None
) -> None:
    warnings = target_warnings(filled, USER, "repo", target_config(overrides))
    assert len(warnings) == (0 if expected is None else 1)
    assert all(warning.startswith(expected or "") for warning in warnings)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ({}, None),
        ({"model": {"parent_model_name": "repo/gone"}}, "model.parent_model_name: Model 'repo/gone' is not served"),
        ({"model_name": "repo/gone"}, "model_name: Model 'repo/gone' is not served"),
        ({"model_name": "Some/Other"}, "model_name: 'Some/Other' is not on this machine: 'fake/base' stands in"),
        ({"data": {"sources": [{"split": "x"}]}}, "this can't be run here: data.sources names 1 files"),
        ({"model": {"adapter_paths": ["x"]}}, "model.adapter_paths has no effect"),
    ],
)
def test_a_bake_s_missing_parent_and_settings_that_can_t_be_run_are_warned_about(
    filled: Catalog, overrides: dict[str, Any], expected: str | None
) -> None:
    warnings = bake_warnings(filled, USER, bake_config(overrides))
    assert len(warnings) == (0 if expected is None else 1)
    assert all(warning.startswith(expected or "") for warning in warnings)
