from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from baker.config.generator import TYPES, detach_templates
from baker.config.target import TargetConfig, target_config
from baker.errors import ConfigError

TEMPLATE = "${numq} about ${prompt_u}"
VALUES: dict[str, Any] = {
    "numq": 7,
    "questions": ["Who?"],
    "model": "some/model",
    "temperature": 0.5,
    "max_tokens": 99,
    "dataset": "squad",
    "column": "question",
    "seed": -3,
    "template_path": "templates/q.txt",
    "template_content": TEMPLATE,
    "rollout_with_conditioned": True,
}
OWN_DEFAULTS: dict[str, dict[str, Any]] = {
    "hardcoded": {},
    "oneshot_qs": {"numq": 10, "temperature": 1.0},
    "persona": {"numq": 25, "seed": 42},
    "from_dataset": {"numq": 10, "seed": 42},
    "custom": {"numq": 10, "temperature": 1.0},
}
UNUSED = {
    "hardcoded": {"model", "temperature", "max_tokens", "dataset", "column", "seed", "template_path"},
    "oneshot_qs": {"questions", "dataset", "column"},
    "persona": {"questions", "dataset", "column", "template_path"},
    "from_dataset": {"questions", "model", "temperature", "max_tokens", "template_path"},
    "custom": {"questions", "dataset", "column"},
}


def config_of(*generators: dict[str, Any]) -> TargetConfig:
    return target_config({"generators": list(generators)})


def shown(config: TargetConfig) -> list[dict[str, Any]]:
    built: dict[str, Any] = msgspec.to_builtins(config)
    generators: list[dict[str, Any]] = built["generators"]
    return generators


@pytest.mark.parametrize("kind", TYPES)
@given(given=st.dictionaries(st.sampled_from(sorted(VALUES)), st.booleans()))
def test_each_type_accepts_every_field_and_shows_those_that_were_set_and_its_own_defaults(
    kind: str, given: dict[str, bool]
) -> None:
    sent = {field: VALUES[field] if is_set else None for field, is_set in given.items()}
    config = config_of({"type": kind, **sent})
    set_fields = {field: value for field, value in sent.items() if value is not None}
    assert shown(config) == [{"type": kind, **OWN_DEFAULTS[kind], **set_fields}]
    assert msgspec.convert(msgspec.json.decode(msgspec.json.encode(config)), TargetConfig) == config


@pytest.mark.parametrize("kind", TYPES)
def test_fields_without_an_effect_are_listed(kind: str) -> None:
    generators, _ = detach_templates(config_of({"type": kind, **VALUES}).generators)
    assert set(generators[0].unused_fields()) == UNUSED[kind]
    assert config_of({"type": kind}).generators[0].unused_fields() == []


@pytest.mark.parametrize(
    ("generator", "where", "complaint"),
    [
        ({"type": "magic"}, ".0.type", "'magic' is not supported; allowed: hardcoded, oneshot_qs, persona"),
        ({"type": None}, ".0.type", "required field is missing; allowed: hardcoded"),
        ({"type": ["hardcoded"]}, ".0.type", "is not supported"),
        ({"numq": 3}, ".0.type", "required field is missing; allowed: hardcoded"),
        ("hardcoded", ".0", "object"),
        ({"type": "hardcoded", "colour": 1}, ".0.colour", "unknown field"),
        ({"type": "persona", "numq": 0}, ".0.numq", ">= 1"),
        ({"type": "persona", "numq": 1.5}, ".0.numq", "int"),
        ({"type": "hardcoded", "temperature": 2.1}, ".0.temperature", "<= 2.0"),
        ({"type": "hardcoded", "questions": ["a", None]}, ".0.questions.1", "str"),
        ({"type": "oneshot_qs", "template_content": "${numq}"}, ".0.template_content", "lacks"),
        ({"type": "custom", "template_content": " "}, ".0.template_content", "blank"),
        ({"type": "custom", "template_path": "a/.."}, ".0.template_path", "template name"),
        ({"type": "from_dataset", "dataset": "../squad"}, ".0.dataset", "never a path"),
        ({"type": "from_dataset", "dataset": "/etc/passwd"}, ".0.dataset", "never a path"),
        ({"type": "from_dataset", "dataset": "a/b/c"}, ".0.dataset", "never a path"),
        ({"type": "from_dataset", "dataset": "a\\b"}, ".0.dataset", "never a path"),
        ({"type": "from_dataset", "dataset": ""}, ".0.dataset", "never a path"),
    ],
)
def test_a_bad_field_is_named(generator: Any, where: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint) as raised:
        target_config({"generators": [generator]})
    assert raised.value.message.startswith(f"overrides.generators{where}: ")
    assert raised.value.detail is not None
    assert raised.value.detail[0]["loc"] == ["body", "overrides", "generators", *where[1:].split(".")]


@pytest.mark.parametrize("dataset", ["squad", "questions.jsonl", "org/name", "a.b-c_1"])
def test_names_and_hub_ids_of_datasets_are_accepted(dataset: str) -> None:
    assert config_of({"type": "from_dataset", "dataset": dataset}).generators[0].dataset == dataset


def test_texts_of_templates_are_detached_under_their_normal_paths() -> None:
    config = config_of(
        {"type": "custom", "template_path": "/tmp/../q.txt", "template_content": "One"},
        {"type": "custom", "template_content": "Two"},
        {"type": "custom", "template_path": "C:\\old.txt"},
        {"type": "hardcoded", "questions": ["Who?"]},
        {"type": "oneshot_qs", "template_path": "q.txt"},
    )
    generators, contents = detach_templates(config.generators)
    unnamed = generators[1].template_path or ""
    assert [generator.template_path for generator in generators] == [
        "templates/q.txt",
        unnamed,
        "templates/old.txt",
        None,
        "templates/q.txt",
    ]
    assert all(generator.template_content is None for generator in generators)
    assert contents == {"q.txt": "One", unnamed.removeprefix("templates/"): "Two"}
    assert generators[3] == config.generators[3]
    again, none = detach_templates(generators)
    assert (again, none) == (generators, {})


def test_an_unnamed_text_gets_a_name_that_depends_only_on_the_text() -> None:
    def name(content: str) -> str:
        (detached,), _ = detach_templates(config_of({"type": "custom", "template_content": content}).generators)
        return detached.template_path or ""

    assert name("One") == name("One") != name("Two")


def test_two_texts_under_one_name_are_refused() -> None:
    texts = [{"type": "custom", "template_path": "q", "template_content": text} for text in ("One", "Two")]
    with pytest.raises(ConfigError, match=r"'templates/q'.*use two names"):
        detach_templates(config_of(*texts).generators)
