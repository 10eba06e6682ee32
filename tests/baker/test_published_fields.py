"""Every field that the published client knows is one of ours."""

from typing import Any, get_args

import msgspec
import pytest
from aibread import types as published
from aibread.types import model_config_param

from baker import bake_config as ours
from baker.config import TargetConfig
from baker.generator_config import Generator

OLDER_NAMES = {"u", "v"}


@pytest.mark.parametrize(
    ("theirs", "kind"),
    [
        (published.TargetConfigBaseParam, TargetConfig),
        *((published.GeneratorParam, kind) for kind in get_args(Generator)),
        (published.BakeConfigBaseParam, ours.BakeConfig),
        (published.DatasetItemParam, ours.Dataset),
        (published.ModelConfigParam, ours.ModelConfig),
        (model_config_param.BakedAdapterConfig, ours.LoraConfig),
        (published.DataConfigParam, ours.DataConfig),
        (published.DataSourceParam, ours.DataSource),
        (published.OptimizerConfigParam, ours.OptimizerConfig),
        (published.SchedulerConfigParam, ours.SchedulerConfig),
        (published.CheckpointConfigParam, ours.CheckpointConfig),
        (published.WandbConfigParam, ours.WandbConfig),
        (published.DeepspeedConfigParam, ours.DeepspeedConfig),
    ],
)
def test_every_published_field_is_taken(theirs: Any, kind: type[msgspec.Struct]) -> None:
    fields = set(theirs.__annotations__)
    assert fields
    assert fields - OLDER_NAMES - {kind.__struct_config__.tag_field} <= set(kind.__struct_fields__)
