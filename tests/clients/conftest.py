"""A real service on the tiny model, and the published clients in their own environments."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gateway.engines import MODEL_NAME
from tests.service import RunningGateway

INSTALL_SECONDS = 300
NODE_PACKAGES = ("@aibread/sdk@0.6.2", "@aibread/bgit@0.2.7")
PAGE_ORIGIN = "http://page.test"
"""The origin whose pages may call the service from a browser."""
OLD_PYTHON_CLIENT = "aibread==1.0.0"


@pytest.fixture(scope="session")
def gateway(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    folder = tmp_path_factory.mktemp("tiny-service")
    options = ["--model", str(tiny_model), "--model-name", MODEL_NAME, "--kv-cache-gib", "0.0625"]
    options += ["--stream-stall-seconds", "5", "--vllm-args=--max-num-seqs 16", "--allowed-origins", PAGE_ORIGIN]
    options += ["--tokenizer-info", "on"]
    gateway = RunningGateway(folder, *options, VLLM_CPU_OMP_THREADS_BIND="0")
    yield gateway
    gateway.stop()


@pytest.fixture(scope="session")
def old_python_client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for PYTHONPATH with the first published client and its dependencies."""
    folder = tmp_path_factory.mktemp("aibread-1.0")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(folder), OLD_PYTHON_CLIENT]
    done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_SECONDS)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


@pytest.fixture(scope="session")
def node_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the TypeScript client and bgit in its node_modules."""
    if shutil.which("npm") is None:
        assert "CI" not in os.environ, "CI needs node and npm"
        pytest.skip("node and npm are not installed: the TypeScript client and bgit are not tested")
    folder = tmp_path_factory.mktemp("node")
    (folder / "package.json").write_text('{"private": true, "type": "module"}')
    command = ["npm", "install", "--silent", "--no-audit", "--no-fund", *NODE_PACKAGES]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_SECONDS)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder
