import msgspec
import pytest

from baker.config.generator import Hardcoded
from baker.config.target import target_config
from baker.errors import ConfigError


def test_older_names_of_the_prompts_are_accepted_and_newer_ones_win() -> None:
    assert target_config({"u": "loud", "v": ""}).teacher_prompt == "loud"
    assert target_config({"u": "loud", "v": ""}).student_prompt == ""
    assert target_config({"u": "loud", "teacher_prompt": "quiet"}).teacher_prompt == "quiet"


def test_the_generators_of_the_guide_are_accepted() -> None:
    config = target_config({"generators": [{"type": "hardcoded", "questions": ["a?"]}, {"type": "oneshot_qs"}]})
    assert config.generators[0] == Hardcoded(questions=["a?"])
    assert msgspec.convert(msgspec.to_builtins(config), type(config)) == config


@pytest.mark.parametrize(
    ("overrides", "where", "complaint"),
    [
        ({"temperature": 2.1}, "overrides.temperature", "<= 2.0, got 2.1"),
        ({"max_concurrency": 0}, "overrides.max_concurrency", ">= 1, got 0"),
        ({"colour": 1}, "overrides.colour", "unknown field `colour`"),
        ({"generators": [{"type": "magic"}]}, "overrides.generators.0.type", "magic"),
        ({"generators": [{"type": "oneshot_qs", "numq": "many"}]}, "overrides.generators.0.numq", "`str`: 'many'"),
        ({"extra_kwargs": {"stream": True}}, "overrides.extra_kwargs.stream", "must not be set"),
    ],
)
def test_a_bad_target_field_is_named(overrides: dict, where: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint) as raised:
        target_config(overrides)
    assert raised.value.message.startswith(f"{where}:")
    assert raised.value.detail is not None
    assert raised.value.detail[0]["loc"][:2] == ["body", "overrides"]
