"""Every field that the published client knows is one of ours."""

from typing import Any, get_args

import msgspec
import pytest
from aibread import types as published
from aibread.types import model_config_param

from baker.config import bake as ours
from baker.config.checkpoint import CheckpointConfig
from baker.config.data import DataConfig, DataSource
from baker.config.generator import Generator
from baker.config.model import LoraConfig, ModelConfig
from baker.config.optimizer import OptimizerConfig, SchedulerConfig
from baker.config.target import TargetConfig

OLDER_NAMES = {"u", "v"}


@pytest.mark.parametrize(
    ("theirs", "kind"),
    [
        (published.TargetConfigBaseParam, TargetConfig),
        *((published.GeneratorParam, kind) for kind in get_args(Generator)),
        (published.BakeConfigBaseParam, ours.BakeConfig),
        (published.DatasetItemParam, ours.Dataset),
        (published.ModelConfigParam, ModelConfig),
        (model_config_param.BakedAdapterConfig, LoraConfig),
        (published.DataConfigParam, DataConfig),
        (published.DataSourceParam, DataSource),
        (published.OptimizerConfigParam, OptimizerConfig),
        (published.SchedulerConfigParam, SchedulerConfig),
        (published.CheckpointConfigParam, CheckpointConfig),
        (published.WandbConfigParam, ours.WandbConfig),
        (published.DeepspeedConfigParam, ours.DeepspeedConfig),
    ],
)
def test_every_published_field_is_taken(theirs: Any, kind: type[msgspec.Struct]) -> None:
    fields = set(theirs.__annotations__)
    assert fields
    assert fields - OLDER_NAMES - {kind.__struct_config__.tag_field} <= set(kind.__struct_fields__)
