"""Versions with real adapter files, and commits of another server."""

import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from safetensors.numpy import save_file

from baker.adapters.files import content_hash
from baker.history.commit import Commit, Kind, Parent
from baker.names import MASTER_USER
from baker.repos import bakes, repos
from baker.repos.catalog import Catalog
from baker.status import JobState
from baker.storage.credentials import PasswordHash
from baker.storage.home import checkpoint_folder, job_folder
from baker.storage.job import BakeJob
from baker.storage.job_inputs import BakeInputs
from baker.types import Checkpoint, User
from baker.versions import checkpoints

CONFIG = {"peft_type": "LORA", "r": 2, "lora_alpha": 2, "target_modules": ["q_proj"]}
PARITY = {
    "sequences": [
        {"context_ids": [1], "response_ids": [2, 3], "logprobs": [-2.0, -2.0], "base_logprobs": [-1.0, -1.0]}
    ],
    "dtype": "float32",
}
"""What the engine of tests/fakes.py computes."""


def write_adapter(folder: Path, seed: int, width: int = 8) -> str:
    """Returns: its hash."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_config.json").write_bytes(msgspec.json.encode(CONFIG))
    module = "base_model.model.model.layers.0.self_attn.q_proj"
    values = np.random.default_rng(seed)
    save_file(
        {
            f"{module}.lora_A.weight": values.normal(size=(2, width)).astype(np.float32),
            f"{module}.lora_B.weight": values.normal(size=(width, 2)).astype(np.float32),
        },
        folder / "adapter_model.safetensors",
    )
    return content_hash(folder)


def stream_of(folder: Path) -> bytes:
    """The bytes in which the adapter travels, put together by hand."""
    parts = []
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        content = (folder / name).read_bytes()
        parts += [f"{name} {len(content)}\n".encode(), content]
    return b"".join(parts)


def add_version(
    catalog: Catalog, bake: str, seed: int, *, user: str = "admin", repo: str = "repo", step: int = 3, **inputs: Any
) -> Checkpoint:
    """A finished bake with a commit. Args: inputs: fields of its job's inputs."""
    if user != MASTER_USER and catalog.store.users.find(user) is None:
        catalog.store.users.add(User(user, user, user, 0), PasswordHash(b"", b""))
    repos.put(catalog, user, repo, None)
    bakes.put(catalog, user, repo, bake, "default", {}, may_change=True)
    chosen = BakeInputs(**{"rollouts": {}, "checkpoint": None, **inputs})
    config = bakes.get(catalog, user, repo, bake)
    job = catalog.store.jobs.add(
        BakeJob(user=user, repo=repo, name=bake, state=JobState.COMPLETE, config=config, inputs=chosen)
    )
    folder = checkpoint_folder(job_folder(catalog.store.home, job.id), step)
    sha256 = write_adapter(folder, seed)
    (folder / "parity.json").write_bytes(msgspec.json.encode(PARITY))
    checkpoint = Checkpoint(user, repo, bake, step, folder, sha256, int(time.time()), job.id, parent=chosen.checkpoint)
    return checkpoints.keep(catalog, job, [checkpoint], [checkpoint]).checkpoints[0]


def foreign_commit(adapter: str, base: str = "b" * 64, *parents: str, **fields: Any) -> Commit:
    values = {
        "kind": Kind.BAKE,
        "adapter": adapter,
        "recipe": None,
        "base": base,
        "message": "made elsewhere",
        "author": "carol",
        "created": 7,
        "parents": tuple(Parent(each) for each in parents),
    }
    return Commit(**{**values, **fields})
