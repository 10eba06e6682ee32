"""How base, adapter and devices are put together. Memory layouts: test_placement.py."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import torch

from baker.training import events
from baker.training.devices.parallel import ONE_DEVICE
from baker.training.devices.ranks import ALONE
from baker.training.model import lora
from baker.training.model.base import load_base
from baker.training.setup.builder import WORTH_COMPILING, build_student, compile_if_worthwhile
from baker.training.spec import Round
from tests.baker.tiny import make_trajectories, save_model
from tests.baker.training.run.test_train import warnings_of, write_spec

ROWS = make_trajectories(6)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("base") / "model")


def test_the_student_has_the_config_s_adapter_and_starts_as_the_base(tmp_path: Path, base: Path) -> None:
    adapter = {"r": 3, "lora_alpha": 6, "lora_dropout": 0.25, "target_modules": "q_proj,v_proj"}
    spec = write_spec(tmp_path, base, ROWS, model={"baked_adapter_config": adapter, "dtype": "fp32"})
    emitted: list[events.TrainEvent] = []
    student, attached = build_student(spec, ROWS, ALONE, emitted.append)
    assert student.parallel is ONE_DEVICE and student.most_rows == 2
    config = attached.model.peft_config["default"]
    assert (config.r, config.lora_alpha, config.lora_dropout) == (3, 6, 0.25)
    trained = [name for name, parameter in attached.model.named_parameters() if parameter.requires_grad]
    assert len(trained) == 2 * 2 * 2 and all(".q_proj." in name or ".v_proj." in name for name in trained)
    ids = torch.arange(3, 9)[None]
    with torch.no_grad():
        expected = load_base(base, torch.device("cpu"), "float32").model(input_ids=ids).logits
        torch.testing.assert_close(student.model(input_ids=ids).logits, expected)
    assert [type(event) for event in emitted] == [events.Planned]


def test_the_teacher_is_the_base_while_the_student_changes(tmp_path: Path, base: Path) -> None:
    spec = write_spec(tmp_path, base, ROWS, data={"teacher": "full"})
    student, attached = build_student(spec, ROWS, ALONE, lambda event: None)
    ids = torch.arange(3, 9)[None]
    with torch.no_grad():
        before = student.model(input_ids=ids).logits
        for _, weight in lora._named_weights(attached.model):
            weight.normal_(std=0.1)
        assert not torch.allclose(student.model(input_ids=ids).logits, before)
        with student.as_teacher():
            torch.testing.assert_close(student.model(input_ids=ids).logits, before)


def test_without_the_engine_s_weights_it_loads_its_own_copy_and_warns(tmp_path: Path, base: Path) -> None:
    handles = tmp_path / "handles"
    handles.write_bytes(b"nothing")
    spec = msgspec.structs.replace(write_spec(tmp_path, base, ROWS), engine_weights=str(handles))
    emitted: list[events.TrainEvent] = []
    build_student(spec, ROWS, ALONE, emitted.append)
    (warning,) = warnings_of(emitted)
    assert warning.startswith(
        "the engine's weights can't be shared, so training loads its own copy: its memory can't be opened"
    )
    (plan,) = (event.memory for event in emitted if isinstance(event, events.Planned))
    assert not plan.is_lent and plan.needed["weights"] > 0


@pytest.mark.parametrize(
    ("device", "part", "share", "is_compiled"),
    [
        ("cuda", Round(), 1.01, True),
        ("cuda", Round(), 0.99, False),
        ("cuda", Round(number=1), 1.01, False),
        ("cpu", Round(), 1.01, False),
    ],
)
def test_only_long_trainings_on_one_gpu_are_compiled(
    tmp_path: Path, base: Path, device: str, part: Round, share: float, is_compiled: bool
) -> None:
    spec = msgspec.structs.replace(write_spec(tmp_path, base, ROWS, epochs=100), round=part)
    tokens = 100 * sum(len(row.student_ids) + len(row.response_ids) for row in ROWS)
    tried: list[Any] = []

    def compile_layers(batch: Any) -> str:
        tried.append(batch)
        return "no compiler"

    student: Any = SimpleNamespace(
        model=SimpleNamespace(num_parameters=lambda: share * WORTH_COMPILING / 4 / tokens),
        device=torch.device(device),
        parallel=ONE_DEVICE,
        most_rows=2,
        compile_layers=compile_layers,
    )
    emitted: list[events.TrainEvent] = []
    compile_if_worthwhile(spec, student, ROWS, emitted.append)
    assert [len(batch.input_ids_BT) for batch in tried] == [2] * is_compiled
    warning = "the model's layers can't be compiled for this GPU, so training takes longer: no compiler"
    assert warnings_of(emitted) == [warning] * is_compiled
    student.parallel = ONE_DEVICE._replace(size=2)
    compile_if_worthwhile(spec, student, ROWS, emitted.append)
    assert len(tried) == is_compiled, "never on several devices"
