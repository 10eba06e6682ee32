"""The unmodified TypeScript client and bgit, under node."""

import itertools
import os
import re
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest

from tests.service import RunningGateway

PATIENCE_SECONDS = 240
SCRIPT = Path(__file__).with_name("typescript_sdk.mjs")

# With a student prompt: bgit would add one, and `bgit status` would then look for a target of another name.
INPUT = """\
PROMPT:
  teacher:
    messages:
      - role: system
        content: Always shout
  student:
    messages: []
TARGET:
  name: target1
  generators:
    - type: hardcoded
      numq: 8
      questions: [One plus one?, Two plus two?, Three plus three?, Four plus four?,
                  Five plus five?, Six plus six?, Seven plus seven?, Eight plus eight?]
  num_traj_per_stimulus: 2
  max_tokens: 8
  extra_kwargs:
    ignore_eos: true
BAKE:
  name: bake1
  datasets:
    - target: target1
      weight: 1.0
  epochs: 2
"""


def environment(gateway: RunningGateway, node_folder: Path, home: Path) -> dict[str, str]:
    return {
        "PATH": f"{node_folder / 'node_modules' / '.bin'}:{os.environ['PATH']}",
        "HOME": str(home),
        "BREAD_BASE_URL": gateway.url,
        "BREAD_API_KEY": gateway.key,
        "GIT_AUTHOR_NAME": "A",
        "GIT_AUTHOR_EMAIL": "a@example.org",
        "GIT_COMMITTER_NAME": "A",
        "GIT_COMMITTER_EMAIL": "a@example.org",
        "GIT_CONFIG_NOSYSTEM": "1",
    }


def test_the_typescript_client(gateway: RunningGateway, node_folder: Path, tmp_path: Path) -> None:
    # Node looks for packages in the script's folder.
    script = shutil.copy(SCRIPT, node_folder / SCRIPT.name)
    done = subprocess.run(
        ["node", str(script)],
        env=environment(gateway, node_folder, tmp_path),
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.split()[-1] == "served"


class Bgit:
    """The command, run in a folder that is also its HOME."""

    def __init__(self, gateway: RunningGateway, node_folder: Path, home: Path) -> None:
        self.folder = home
        self._environment = environment(gateway, node_folder, home)

    def __call__(self, *arguments: str) -> str:
        """The command's output. Fails if the command fails."""
        done = subprocess.run(
            ["bgit", *arguments],
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
        )
        assert done.returncode == 0, f"bgit {arguments}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr


def commit(bgit: Bgit, message: str) -> None:
    bgit("add", ".")
    bgit("commit", "--allow-empty", "-m", message)


def run(bgit: Bgit, *arguments: str) -> None:
    output = bgit("run", *arguments)
    assert "rror" not in output, output


@pytest.fixture(scope="module")
def answered(gateway: RunningGateway, node_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Bgit:
    """A project after `init`, `add`, `commit` and `run stim rollout`."""
    bgit = Bgit(gateway, node_folder, tmp_path_factory.mktemp("bgit"))
    bgit("init", "from-bgit")
    bgit.folder /= "from-bgit"
    (bgit.folder / "input.yml").write_text(INPUT)
    commit(bgit, "First")
    run(bgit, "stim", "rollout")
    commit(bgit, "What the run has written")
    return bgit


def test_status_and_outputs(answered: Bgit) -> None:
    status = answered("status")
    assert status.lower().count("complete") == 2, status
    assert "Five plus five?" in answered("stim")
    assert "16" in answered("rollout", "--count")
    assert "target1_" in answered("target", "ls")


@pytest.fixture(scope="module")
def bgit(answered: Bgit) -> Bgit:
    """The project after the same run again, which finds two stages complete, and the bake."""
    run(answered, "stim", "rollout", "bake")
    return answered


def test_a_run_leaves_the_recipe_of_the_bake(bgit: Bgit) -> None:
    recipe = (bgit.folder / "recipe.yml").read_text()
    assert re.search(r"admin/from-bgit/bake1_[0-9a-f]{16}/\d+", recipe)
    assert "total_steps: 7" in recipe


def test_metrics_and_tree(bgit: Bgit) -> None:
    assert "loss" in bgit("metrics").lower()
    assert "bake1_" in bgit("tree")


def test_the_printed_link_gives_the_weights_without_a_key(bgit: Bgit) -> None:
    output = bgit("download")
    url = re.findall(r'wget -O \S+_checkpoint_\d+\.tar\.gz "([^"]+)"', output)[0]
    with urllib.request.urlopen(url) as answer:
        assert answer.read(2) == b"\x1f\x8b", "gzip's first bytes"


def next_generation(prompt: str, target: str) -> str:
    """An input for a bake on top of the last one. It has no `model`, which bgit would send instead of the parent."""
    # More epochs: what a child has left to learn is less than the noise of a few answers, and a bake must learn.
    return INPUT.replace("Always shout", prompt).replace("target1", target).replace("epochs: 2", "epochs: 8")


def assert_chain(gateway: RunningGateway, length: int) -> None:
    """Each bake of the repo is the parent of the next."""
    tree = gateway.bread().repo.get_tree(repo_name="from-bgit")
    names = list(tree.bakes)
    assert len(names) == length
    assert tree.edges == [["bake", child, "bake", parent] for parent, child in itertools.pairwise(names)]


def test_a_second_run_bakes_on_the_first(bgit: Bgit, gateway: RunningGateway) -> None:
    (bgit.folder / "input.yml").write_text(next_generation("Whisper", "target2"))
    commit(bgit, "Second")
    run(bgit, "stim", "rollout", "bake")
    recipe = (bgit.folder / "recipe.yml").read_text()
    assert len(set(re.findall(r"admin/from-bgit/bake1_[0-9a-f]{16}/\d+", recipe))) == 2
    assert "total_steps: 13" in recipe, "both generations"
    assert_chain(gateway, 2)


def test_a_detached_bake_of_a_third_generation_is_fetched(bgit: Bgit, gateway: RunningGateway) -> None:
    (bgit.folder / "input.yml").write_text(next_generation("Sing", "target3"))
    commit(bgit, "Third")
    run(bgit, "stim", "rollout", "bake", "--detach")
    deadline = time.monotonic() + PATIENCE_SECONDS
    while "total_steps: 19" not in (bgit.folder / "recipe.yml").read_text():
        assert time.monotonic() < deadline, bgit("fetch")
        bgit("fetch")
        time.sleep(1)
    assert_chain(gateway, 3)
