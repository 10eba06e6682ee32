"""A script for aibread 1.0.0; test_aibread.py runs it with that version on its path."""

import sys
import time
from importlib.metadata import version
from typing import Any

from aibread import Bread

assert version("aibread") == "1.0.0", sys.path
REPO = "from-1-0"
bread: Any = Bread()

bread.repo.set(repo_name=REPO)
base_model = bread.repo.set(repo_name=REPO).base_model
assert REPO in [item.repo_name for item in bread.repo.list().items]
for name, text in (("loud", "Always shout"), ("plain", ""), ("unused", "")):
    bread.prompts.set(prompt_name=name, repo_name=REPO, messages=[{"role": "user", "content": text}])
bread.prompts.delete(prompt_name="unused", repo_name=REPO)
assert [item.prompt_name for item in bread.prompts.list(repo_name=REPO).items] == ["loud", "plain"]

target = bread.targets.set(
    target_name="target",
    repo_name=REPO,
    template="default",
    overrides={
        "generators": [{"type": "hardcoded", "numq": 6, "questions": [f"Question {number}?" for number in range(6)]}],
        "u": "loud",
        "v": "plain",
        "num_traj_per_stimulus": 2,
        "max_tokens": 8,
        "extra_kwargs": {"ignore_eos": True},
    },
)
assert (target.config.u, target.config.v) == ("loud", "plain")
assert [item.target_name for item in bread.targets.list(repo_name=REPO).items] == ["target"]

# No polling, which this client does not have: each stage waits for the one before.
stim = bread.targets.stim.run(target_name="target", repo_name=REPO)
assert (stim.status, stim.lines, stim.parameters is not None) == ("complete", 6, True)
bread.targets.rollout.run(target_name="target", repo_name=REPO)
bread.bakes.set(
    bake_name="bake",
    repo_name=REPO,
    template="default",
    overrides={
        "datasets": [{"target": "target", "weight": 1.0}],
        "epochs": 1,
        "checkpoint": [{"type": "huggingface", "save_interval": 4}],
        "model": {"name_or_path": base_model, "adapter_paths": ["/nowhere"], "parent_peft_dir": "/nowhere"},
        "wandb": {"enable": False, "tags": ["old"]},
    },
)
assert bread.bakes.run(bake_name="bake", repo_name=REPO).message
assert [item.bake_name for item in bread.bakes.list(repo_name=REPO).items] == ["bake"]

while (bake := bread.bakes.get(bake_name="bake", repo_name=REPO)).status not in ("complete", "failed"):
    time.sleep(0.5)
assert bake.status == "complete", bake
assert (bake.bake_name, bake.job, bake.config is not None) == ("bake", None, True)
rows = bread.targets.rollout.get_output(target_name="target", repo_name=REPO, limit=100)
assert len(rows.output) == rows.lines == 12
bread.bakes.delete(bake_name="bake", repo_name=REPO)
bread.targets.delete(target_name="target", repo_name=REPO)
print("served")
