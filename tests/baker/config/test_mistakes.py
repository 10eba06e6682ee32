import time
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from baker.config.bake import BakeConfig, bake_config
from baker.config.mistakes import (
    MAX_LISTED,
    Mistake,
    check,
    find_mistakes,
    mistakes_error,
    mistakes_of,
    parse_complaint,
    refusal,
    shown,
    with_value,
)
from baker.config.target import TargetConfig, target_config
from baker.errors import ConfigError
from tests.baker.settings import settings_of

BODIES: list[tuple[Any, dict[str, Any], dict[str, str]]] = [
    (
        bake_config,
        {
            "learning_rate": 1,
            "rank": 8,
            "epochs": 0,
            "optimizer": {"learning_rat": 3, "type": "adamx", "betas": [2, 0.5]},
            "datasets": [{"target": "a", "weight": -1}, {"weight": "x"}, 3],
            "data": {"sources": [{"type": "x", "splits": 1}], "teacher": "topk"},
            "checkpoint": [{"save_interval": "s"}, {"enabled": 1}],
            "model": {"name_or_path": 5, "dtype": "bfloat", "peft_config": {"r": 0, "lora_alpa": 3, "use_dora": True}},
            "scheduler": {"type": "cosin", "lr": 0.1},
        },
        {
            "learning_rate": "did you mean `optimizer.learning_rate`?",
            "rank": "did you mean `model.baked_adapter_config.r`?",
            "epochs": "Expected `int` >= 1, got 0",
            "optimizer.learning_rat": "did you mean `optimizer.learning_rate`?",
            "optimizer.type": "did you mean 'adam'?",
            "optimizer.betas": "must be at least 0 and below 1, got [2.0, 0.5]",
            "datasets.0.weight": ">= 0.0, got -1",
            "datasets.1.weight": "got `str`: 'x'",
            "datasets.1.target": "required field is missing",
            "datasets.2": "Expected `object`, got `int`: 3",
            "data.sources.0.type": "'x' is not supported; allowed: bake_jsonl",
            "data.sources.0.splits": "did you mean `data.sources[].split`?",
            "data.teacher": "did you mean 'top_k'?",
            "checkpoint.0.save_interval": "got `str`: 's'",
            "checkpoint.1.enabled": "Expected `bool`, got `int`: 1",
            "model.name_or_path": "got `int`: 5",
            "model.dtype": "did you mean 'bfloat16'?",
            "model.peft_config.r": ">= 1, got 0",
            "model.peft_config.lora_alpa": "did you mean 'lora_alpha'?",
            "model.peft_config.use_dora": "not served here",
        },
    ),
    (
        target_config,
        {
            "u": 5,
            "temperature": "hot",
            "top_p": 1,
            "num_questions": 4,
            "extra_kwargs": {"model": "x", "stream": True, "seed": "s"},
            "generators": [
                {"type": "hardcode", "question": ["a"], "numq": 0},
                {"type": "persona", "numq": "x"},
                {"questions": [1, "a", 2]},
                7,
                {"type": "from_dataset", "dataset": "../x", "template_path": ".."},
                {"type": "oneshot_qs", "template_content": "${numq}", "dateset": "squad"},
            ],
        },
        {
            "u": "got `int`: 5",
            "temperature": "got `str`: 'hot'",
            "top_p": "did you mean `extra_kwargs.top_p`?",
            "num_questions": "did you mean `generators[].numq`?",
            "extra_kwargs.model": "must not be set",
            "extra_kwargs.stream": "must not be set",
            "extra_kwargs.seed": "got `str`: 's'",
            "generators.0.type": "did you mean 'hardcoded'?",
            "generators.0.question": "did you mean `generators[].questions`?",
            "generators.0.numq": ">= 1, got 0",
            "generators.1.numq": "got `str`: 'x'",
            "generators.2.type": "missing; allowed: hardcoded, oneshot_qs",
            "generators.2.questions.0": "got `int`: 1",
            "generators.2.questions.2": "got `int`: 2",
            "generators.3": "Expected `object`",
            "generators.4.dataset": "never a path",
            "generators.4.template_path": "template name",
            "generators.5.template_content": "lacks ${prompt_u}",
            "generators.5.dateset": "did you mean `generators[].dataset`?",
        },
    ),
]


@pytest.mark.parametrize(("read", "overrides", "expected"), BODIES)
def test_every_mistake_is_reported_at_its_path_with_a_hint(
    read: Any, overrides: dict[str, Any], expected: dict[str, str]
) -> None:
    with pytest.raises(ConfigError) as raised:
        read(overrides)
    detail = raised.value.detail or []
    texts = {".".join(entry["loc"][2:]): entry["msg"] for entry in detail}
    assert set(texts) | {"scheduler.lr", "scheduler.type"} == set(expected) | {"scheduler.lr", "scheduler.type"}
    assert all(words in texts[path] for path, words in expected.items()), texts
    assert all(f"overrides.{path}: {text}" in raised.value.message for path, text in texts.items())


@pytest.mark.parametrize("kind", [BakeConfig, TargetConfig])
def test_each_field_of_a_config_is_found_from_the_top_by_its_own_name(kind: type[msgspec.Struct]) -> None:
    at_top = set(kind.__struct_fields__)
    for path, _ in settings_of(kind):
        name = path.rpartition(".")[2]
        if name not in at_top and name not in getattr(kind, "other_names", {}):
            (mistake,) = find_mistakes({name: None}, kind)
            assert f".{name}`" in mistake.text, path


@pytest.mark.parametrize("kind", [BakeConfig, TargetConfig])
def test_each_name_of_other_libraries_leads_to_a_real_field(kind: Any) -> None:
    paths = {path for path, _ in settings_of(kind)}
    names = kind.other_names
    assert names and not set(names) & set(kind.__struct_fields__)
    assert {path for path in names.values() if not path.startswith("extra_kwargs.")} <= paths


FIELDS = st.sampled_from(["type", "datasets", "target", "optimizer", "betas", "generators", "numq", "x", "model"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(FIELDS, JSON, max_size=4), st.sampled_from([BakeConfig, TargetConfig]))
def test_mistakes_are_found_exactly_where_msgspec_refuses(value: dict[str, Any], kind: Any) -> None:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        assert find_mistakes(value, kind)
    else:
        assert find_mistakes(value, kind) == []


HOSTILE: list[Any] = [
    {f"x{number}": number for number in range(10_000)},
    {"x" * 1_000_000: "y" * 1_000_000, "epochs": "y" * 1_000_000},
    {"datasets": [{"target": 1}] * 100_000},
    {"datasets": [{f"x{number}": [] for number in range(10_000)}] * 10},
    {"generators": [{"type": "hardcoded", "questions": [1] * 500_000}]},
    {"generators": [{"type": "x" * 100_000, "numq": {"a": "b" * 100_000}}] * 1000},
    {"model": {"peft_config": {f"x{number}": number for number in range(10_000)}}},
    {"model": {"baked_adapter_config": {"target_modules": "(" * 100_000}, "save_name": "x" * 100_000}},
]


@pytest.mark.parametrize("body", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize("read", [bake_config, target_config])
def test_a_hostile_body_costs_little_and_gets_a_short_answer(body: dict[str, Any], read: Any) -> None:
    start = time.process_time()
    with pytest.raises(ConfigError) as raised:
        read(body)
    assert time.process_time() - start < 2
    assert len(raised.value.message) < 12_000
    assert len(raised.value.detail or []) <= MAX_LISTED
    assert ("more mistakes" in raised.value.message) is (len(raised.value.detail or []) == MAX_LISTED)


class Point(msgspec.Struct, forbid_unknown_fields=True):
    x: int
    by_name: dict[str, Annotated[int, msgspec.Meta(ge=1)]] = {}
    pair: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.x < 0:
            raise ValueError("x is negative")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"x": -1}, [Mistake((), "x is negative")]),
        ({"x": "1"}, [Mistake(("x",), "Expected `int`, got `str`: '1'")]),
        ({"x": 1, "by_name": {"a": 1, "b": 0}}, [Mistake(("by_name", "b"), "Expected `int` >= 1, got 0")]),
        ({"x": 1, "pair": [1, "2"]}, [Mistake(("pair", "1"), "Expected `int`, got `str`: '2'")]),
        ({"x": 1, "pair": [1]}, [Mistake(("pair",), "Expected `array` of length 2, got 1: [1]")]),
        ([], [Mistake((), "Expected `object`, got `array`: []")]),
    ],
)
def test_each_kind_of_value_is_walked_to_the_part_that_is_wrong(value: Any, expected: list[Mistake]) -> None:
    assert find_mistakes(value, Point) == expected


def test_without_strictness_texts_of_numbers_are_right() -> None:
    assert find_mistakes({"x": "1", "by_name": {"a": "x"}}, Point, strict=False) != []
    assert find_mistakes({"x": "1"}, Point, strict=False) == []


def test_a_message_that_a_client_wrote_into_a_value_does_not_move_the_path() -> None:
    (mistake,) = find_mistakes({"generators": [{"type": "x - at `$.temperature`"}]}, TargetConfig)
    assert mistake.path == ("generators", "0", "type")


@pytest.mark.parametrize("value", ["x" * 10**6, 10**400, [[[[[[1]]]]]], list(range(10**6)), {"a": "b" * 10**6}])
def test_a_shown_value_is_short(value: Any) -> None:
    assert len(shown(value)) < 130


def test_mistakes_survive_the_way_through_an_error() -> None:
    mistakes = [Mistake(("a", "0"), "one"), Mistake((), "two")]
    error = mistakes_error(mistakes, ("body", "overrides"))
    assert error.message == "overrides.a.0: one; overrides: two"
    assert mistakes_of(error, "x") == [Mistake(("overrides", "a", "0"), "one"), Mistake(("overrides",), "two")]
    assert mistakes_of(ConfigError("three"), "x") == [Mistake(("x",), "three")]


def test_a_check_raises_all_that_it_was_given() -> None:
    def refuse() -> None:
        raise ValueError("no")

    check(None, refusal("b", lambda: None))
    with pytest.raises(ValueError, match="a: first; b: no"):
        check(Mistake(("a",), "first"), None, refusal("b", refuse))


def test_the_parts_of_msgspec_s_messages_are_read() -> None:
    with pytest.raises(msgspec.ValidationError) as raised:
        msgspec.convert([{"x": 1, "pair": [1, "2"]}], list[Point])
    complaint = parse_complaint(raised.value)
    assert complaint.path == ["0", "pair", "1"] and complaint.lacks_value
    assert with_value(complaint.text, "2") == "Expected `int`, got `str`: '2'"
