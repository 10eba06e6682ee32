"""A whole training in this process, and once in a process of its own."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file

from baker.adapters.files import ADAPTER_WEIGHTS, check_adapter, content_hash
from baker.adapters.parity import read_parity
from baker.config.bake import bake_config
from baker.errors import StageError, TrainingError
from baker.status import KLChange
from baker.storage.files import write_json
from baker.training import events
from baker.training.model.base import load_base, pick_dtype
from baker.training.run.train import train
from baker.training.spec import TrainSpec
from baker.trajectories.files import save_trajectory
from baker.types import Trajectory
from tests.baker.tiny import make_model, make_trajectories, save_model, with_teacher

CPU = torch.device("cpu")
SETTINGS: dict[str, Any] = {
    "epochs": 4,
    "micro_batch_size": 2,
    "optimizer": {"learning_rate": 0.02},
    "model": {"baked_adapter_config": {"r": 4, "lora_alpha": 4}, "dtype": "fp32"},
}
TIME_DEPENDENT = {"tokens_per_second", "iter_time", "eta_seconds", "memory_bytes", "state_ms", "state_share"}
STEP_KEYS = {"iter", "epoch", "loss", "lr", "grad_norm", "seqlen", *TIME_DEPENDENT} - {"state_ms", "state_share"}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("base") / "model")


def write_spec(
    folder: Path,
    base: Path,
    rows: list[Trajectory] | None = None,
    held_out: int = 3,
    parent: Path | None = None,
    **settings: Any,
) -> TrainSpec:
    files = []
    (folder / "rows").mkdir(parents=True, exist_ok=True)
    for index, row in enumerate(make_trajectories(15) if rows is None else rows):
        files.append(folder / "rows" / f"{index}.safetensors")
        save_trajectory(files[-1], row)
    spec = TrainSpec(
        name="repo/bake",
        base_model=str(base),
        base_model_name="org/base",
        parent_adapter=None if parent is None else str(parent),
        train=[str(file) for file in files[held_out:]],
        held_out={"target": [str(file) for file in files[:held_out]]},
        output=str(folder / "out"),
        metrics=str(folder / "metrics.jsonl"),
        config=bake_config(settings, bake_config(SETTINGS)),
        threads=1,
    )
    write_json(folder / "spec.json", spec)
    return spec


def run(spec: TrainSpec) -> list[events.TrainEvent]:
    heard: list[events.TrainEvent] = []
    train(spec, heard.append)
    return heard


def start(spec_file: Path, *options: str, **settings: Any) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "baker.training.run", str(spec_file), *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **settings)


def warnings_of(heard: list[events.TrainEvent]) -> list[str]:
    return [event.message for event in heard if isinstance(event, events.Warned)]


def test_a_child_process_bakes_and_says_so_in_events_alone(tmp_path: Path, base: Path) -> None:
    spec = write_spec(tmp_path, base, eval_interval=10)
    process = start(tmp_path / "spec.json")
    output, complaints = process.communicate()
    assert process.returncode == 0, complaints.decode()
    heard = [events.decode(line) for line in output.splitlines()]

    weights = load_file(tmp_path / "out/24/adapter_model.safetensors").values()
    assert isinstance(heard[0], events.Planned)
    assert heard[1] == events.Started(24, 12, 3, sum(tensor.numel() for tensor in weights))
    steps = [event for event in heard if isinstance(event, events.Stepped)]
    assert [event.step for event in steps] == list(range(1, 25))
    assert [event.step for event in heard if isinstance(event, events.Evaluated)] == [0, 10, 20, 24]
    saved, done = heard[-2:]
    assert isinstance(saved, events.Saved) and isinstance(done, events.Done)
    assert (saved.step, saved.sha256) == (24, content_hash(tmp_path / "out/24"))
    assert list((tmp_path / "out").iterdir()) == [tmp_path / "out/24"]
    before, after = done.loss.eval_kl_before, done.loss.eval_kl
    assert before is not None and after is not None and after < 0.9 * before
    assert done.loss.recovered == pytest.approx(1 - after / before)
    assert done.loss.eval_kl_by_target == {"target": KLChange(before, after)}
    agreed, shares = done.loss.agreement, done.loss.agreement_by_target["target"]
    assert agreed is not None and (shares.before, shares.after) == (done.loss.agreement_before, agreed)
    assert done.loss.drift is None, "no neutral answers were given"
    assert done.loss.final_loss == steps[-1].loss and done.loss.max_loss == max(event.loss for event in steps)

    check_metrics(tmp_path / "metrics.jsonl", steps)
    check_checkpoint(tmp_path / "out/24", base)

    # The same spec gives the same adapter, here in another process.
    again = run(msgspec.structs.replace(spec, output=str(tmp_path / "again")))
    assert isinstance(again[-2], events.Saved) and again[-2].sha256 == saved.sha256
    other = run(msgspec.structs.replace(spec, config=bake_config({"seed": 1}, spec.config)))
    assert isinstance(other[-2], events.Saved) and other[-2].sha256 != saved.sha256


def check_metrics(path: Path, steps: list[events.Stepped]) -> None:
    rows = [json.loads(line, parse_constant=pytest.fail) for line in path.read_text().splitlines()]
    trained = [row for row in rows if "loss" in row]
    assert [(row["iter"], row["loss"], row["lr"]) for row in trained] == [(e.step, e.loss, e.lr) for e in steps]
    assert all(row["eval_kl_by_target"] == {"target": row["eval_loss"]} for row in rows if "eval_loss" in row)
    assert set(trained[0]) == STEP_KEYS
    assert trained[-1]["eta_seconds"] == 0 < trained[0]["eta_seconds"]
    assert 50e6 < trained[0]["memory_bytes"] < 50e9
    assert [row["iter"] for row in rows if "eval_loss" in row] == [0, 10, 20, 24]
    assert trained[-1]["epoch"] == 4.0


def check_checkpoint(folder: Path, base: Path) -> None:
    """It loads with PEFT into a fresh base, and the certificate holds what that model computes."""
    check_adapter(folder, max_rank=4)
    model = PeftModel.from_pretrained(load_base(base, CPU, dtype="float32").model, folder).eval()
    sequences = read_parity(folder).sequences
    assert len(sequences) == 3
    for sequence in sequences:
        ids = torch.tensor([sequence.context_ids + sequence.response_ids])
        for logprobs, is_baked in ((sequence.logprobs, True), (sequence.base_logprobs, False)):
            with torch.no_grad():
                if is_baked:
                    logits = model(input_ids=ids).logits
                else:
                    with model.disable_adapter():
                        logits = model(input_ids=ids).logits
            log_probs_TV = logits[0, len(sequence.context_ids) - 1 : -1].float().log_softmax(-1)
            assert logprobs == pytest.approx(
                [float(log_probs_TV[t, i]) for t, i in enumerate(sequence.response_ids)], abs=1e-3
            )
        assert sequence.logprobs != pytest.approx(sequence.base_logprobs, abs=1e-3)


def test_a_child_bake_starts_where_its_parent_ended(tmp_path: Path, base: Path) -> None:
    first = run(write_spec(tmp_path / "a", base))
    done = first[-1]
    assert isinstance(done, events.Done)
    lora = {"model": {"baked_adapter_config": {"r": 6, "lora_alpha": 3}}}
    second = run(write_spec(tmp_path / "b", base, parent=tmp_path / "a/out/24", **lora))
    evaluated = next(event for event in second if isinstance(event, events.Evaluated))
    assert evaluated.eval_kl == pytest.approx(done.loss.eval_kl, rel=1e-3)
    check_adapter(tmp_path / "b/out/24", max_rank=6)


def test_checkpoints_on_the_way_change_nothing_at_its_end(tmp_path: Path, base: Path) -> None:
    lora = {"model": {"baked_adapter_config": {"lora_dropout": 0.2}}, "epochs": 2}
    plain = [event for event in run(write_spec(tmp_path / "a", base, **lora)) if isinstance(event, events.Saved)]
    often = write_spec(tmp_path / "b", base, **lora, checkpoint=[{"save_every_n_epochs": 1, "save_every_n_steps": 5}])
    saved = [event for event in run(often) if isinstance(event, events.Saved)]
    assert [event.step for event in plain] == [12]
    assert [event.step for event in saved] == [5, 6, 10, 12]
    assert saved[-1].sha256 == plain[-1].sha256, "the random state is not touched"
    folders = [tmp_path / "b/out" / str(event.step) for event in saved]
    for folder in folders:
        check_adapter(folder, max_rank=4)
    first, last = (load_file(folder / ADAPTER_WEIGHTS) for folder in (folders[0], folders[-1]))
    assert any(not torch.equal(first[name], last[name]) for name in first)
    assert read_parity(folders[0]).sequences[0].logprobs != read_parity(folders[-1]).sequences[0].logprobs


@pytest.mark.parametrize("dtype", ["bf16", "fp32", None])
def test_the_certificate_names_the_type_that_was_computed_in(tmp_path: Path, base: Path, dtype: str | None) -> None:
    spec = write_spec(tmp_path, base, epochs=1)
    config = bake_config({"epochs": 1, "model": {"dtype": dtype}})
    run(msgspec.structs.replace(spec, config=config))
    expected = {"bf16": "bfloat16", "fp32": "float32", None: str(pick_dtype(CPU)).removeprefix("torch.")}
    assert read_parity(tmp_path / "out/6").dtype == expected[dtype]


def test_what_the_machine_or_the_operator_does_not_do_is_warned_of(tmp_path: Path, base: Path) -> None:
    model = {"dtype": "fp16", "attn_implementation": "flash_attention_2"}
    settings = {"model": model, "wandb": {"enable": True}, "deepspeed": {"zero_optimization": {"stage": 3}}}
    warned = warnings_of(run(write_spec(tmp_path, base, epochs=1, **settings)))
    assert [warning.split()[0] for warning in warned] == [
        "deepspeed.zero_optimization.stage",
        "model.dtype",
        "model.attn_implementation",
        "wandb.enable",
    ]


def test_accumulated_batches_make_the_step_of_one_large_batch(tmp_path: Path, base: Path) -> None:
    rows = make_trajectories(6)
    weights = []
    for size, steps in ((6, 1), (2, 3), (1, 6)):
        settings = {"micro_batch_size": size, "gradient_accumulation_steps": steps, "epochs": 3}
        folder = tmp_path / str(size)
        run(write_spec(folder, base, rows, held_out=0, **settings))
        weights.append(load_file(folder / "out/3/adapter_model.safetensors"))
    for other in weights[1:]:
        for name, tensor in weights[0].items():
            torch.testing.assert_close(other[name], tensor, rtol=1e-2, atol=2e-3)


def test_without_a_held_out_part_there_is_a_warning_and_no_eval_kl(tmp_path: Path, base: Path) -> None:
    heard = run(write_spec(tmp_path, base, held_out=0, epochs=1))
    assert any("nothing is held out" in warning for warning in warnings_of(heard))
    done = heard[-1]
    assert isinstance(done, events.Done) and done.loss.eval_kl is None and done.loss.recovered is None
    assert not any(isinstance(event, events.Evaluated) for event in heard)


def test_a_teacher_that_equals_the_student_is_a_warning(tmp_path: Path, base: Path) -> None:
    model = load_base(base, CPU, dtype="float32").model
    rows = [
        with_teacher(model, row.student_ids, row.student_ids, row.response_ids, row.stimulus)
        for row in make_trajectories(15, model)
    ]
    heard = run(write_spec(tmp_path, base, rows, optimizer={"learning_rate": 1e-5}))
    assert any("agreed from the start" in warning for warning in warnings_of(heard))
    assert isinstance(heard[-1], events.Done)


def test_what_a_killed_run_left_is_cleared(tmp_path: Path, base: Path) -> None:
    spec = write_spec(tmp_path, base, epochs=1)
    for left in (".6.abc.tmp", "6"):
        (tmp_path / "out" / left).mkdir(parents=True)
        (tmp_path / "out" / left / "adapter_model.safetensors").write_bytes(b"half")
    run(spec)
    assert list((tmp_path / "out").iterdir()) == [tmp_path / "out/6"]
    check_adapter(tmp_path / "out/6", max_rank=4)


def test_a_parent_that_is_only_measured_is_written_as_it_is_and_again_after_a_kill(tmp_path: Path, base: Path) -> None:
    run(write_spec(tmp_path / "parent", base, epochs=1))
    parent = load_file(tmp_path / "parent/out/6" / ADAPTER_WEIGHTS)
    spec = write_spec(tmp_path, base, parent=tmp_path / "parent/out/6")
    spec = msgspec.structs.replace(spec, state=None, is_untrained=True)
    for _ in range(2):  # the second run finds the checkpoint of the first
        heard = run(spec)
        assert [each.step for each in heard if isinstance(each, events.Saved)] == [0]
        written = load_file(tmp_path / "out/0" / ADAPTER_WEIGHTS)
        assert all(torch.equal(written[name], tensor) for name, tensor in parent.items())
        assert read_parity(tmp_path / "out/0").sequences


def replaced(row: Trajectory, **changes: Any) -> Trajectory:
    return msgspec.structs.replace(row, **changes)


@pytest.mark.parametrize(
    ("kind", "complaint"),
    [
        ("exploding", r"lower optimizer\.learning_rate"),
        ("foreign", "the base model knows 0 to 60"),
        ("without top-k", "no teacher distribution"),
        ("empty", "nothing to train on: none of 12 trajectories"),
        ("dead base", "all gradients are zero"),
    ],
)
def test_a_bake_that_cannot_work_fails_with_the_reason_and_publishes_nothing(
    tmp_path: Path, base: Path, kind: str, complaint: str
) -> None:
    rows = make_trajectories(15)
    settings: dict[str, Any] = {}
    nothing = np.zeros((0, 8), np.int32)
    match kind:
        case "exploding":
            settings = {"optimizer": {"learning_rate": 1e30}}
        case "foreign":
            rows = [replaced(row, top_ids_TK=row.top_ids_TK + 1000) for row in rows]
        case "without top-k":
            rows = [
                replaced(row, top_ids_TK=row.top_ids_TK[:, :0], top_logprobs_TK=row.top_logprobs_TK[:, :0])
                for row in rows
            ]
        case "empty":
            empty = {"top_ids_TK": nothing, "top_logprobs_TK": nothing.astype(np.float32)}
            rows = [replaced(row, response_ids=row.response_ids[:0], **empty) for row in rows]
        case "dead base":
            base = tmp_path / "dead"
            model = make_model()
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.zero_()
            model.save_pretrained(base)
    with pytest.raises(TrainingError, match=complaint):
        run(msgspec.structs.replace(write_spec(tmp_path, base, rows, **settings), draws_curves=True))
    assert not (tmp_path / "out").exists()
    assert (tmp_path / "metrics.png").exists() is (kind in ("exploding", "dead base")), "drawn once it has begun"


def test_a_missing_base_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="gone can't be loaded"):
        run(write_spec(tmp_path, tmp_path / "gone"))
