"""Versions that travel between two running services, each with its own engine, by the `bread` command."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.cli.remotes.places import key_variable
from tests.gateway.engines import HELLO, MODEL_NAME, make_adapter
from tests.service import ROOT, RunningGateway

CHAT = {"messages": HELLO, "max_tokens": 12, "temperature": 0.0, "ignore_eos": True}


class Shell:
    """A user of the first service, with a remote on the second."""

    def __init__(self, here: RunningGateway, there: RunningGateway, folder: Path) -> None:
        self.here, self.there, self._folder = here, there, folder
        self._environment = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(folder),
            "PYTHONPATH": str(ROOT),
            "BREAD_BASE_URL": here.url,
            "BREAD_API_KEY": here.key,
            key_variable("origin"): there.key,
        }

    def __call__(self, *arguments: str, code: int = 0) -> Any:
        """Run `bread ARGUMENTS --json`. Returns: its document, or its error."""
        command = [sys.executable, "-m", "gateway.cli", *arguments, "--json"]
        done = subprocess.run(command, cwd=self._folder, env=self._environment, capture_output=True, text=True)
        assert done.returncode == code, done.stdout + done.stderr
        return json.loads(done.stdout) if code == 0 else done.stderr


@pytest.fixture(scope="module")
def there(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """A second service on the same base model."""
    options = ["--model", str(tiny_model), "--model-name", MODEL_NAME, "--kv-cache-gib", "0.0625"]
    folder = tmp_path_factory.mktemp("second-service")
    service = RunningGateway(folder, *options, "--vllm-args=--max-num-seqs 16", VLLM_CPU_OMP_THREADS_BIND="0")
    yield service
    service.stop()


def client_of(service: RunningGateway) -> httpx.Client:
    return httpx.Client(base_url=service.url, headers={"Authorization": f"Bearer {service.key}"}, timeout=120)


def load(service: RunningGateway, name: str, seed: int) -> None:
    """Import a random adapter as the newest version of `name`."""
    folder = service.folder / ".bread" / "import" / f"travels{seed}"
    make_adapter(folder, seed)
    with client_of(service) as client:
        body = {"lora_name": name, "lora_path": folder.name, "load_inplace": seed % 2 == 0}
        answer = client.post("/v1/load_lora_adapter", json=body)
        assert answer.status_code == 200, answer.text


def answer(service: RunningGateway, model: str) -> str:
    with client_of(service) as client:
        reply = client.post("/v1/chat/completions", json={"model": model, **CHAT})
        assert reply.status_code == 200, reply.text
        text: str = reply.json()["choices"][0]["message"]["content"]
        return text


def refs(service: RunningGateway, repo: str) -> dict[str, str]:
    with client_of(service) as client:
        return {each["name"]: each["commit"] for each in client.get(f"/v1/repo/{repo}/refs").json()["refs"]}


def test_a_version_answers_alike_on_two_services(
    gateway: RunningGateway, there: RunningGateway, tmp_path: Path
) -> None:
    """Push, clone, pull, a push that would lose versions, and the same by force."""
    bread = Shell(gateway, there, tmp_path)
    load(gateway, "travel/yoda", 101)
    bread("remote", "add", "origin", f"{there.url}/arrived", "--repo", "travel")
    pushed = bread("push", "origin", "yoda", "--repo", "travel")
    assert (pushed["commits"], pushed["adapters"]) == (1, 1)
    ours = refs(gateway, "travel")["yoda"]
    assert refs(there, "arrived")["yoda"] == ours
    spoken = answer(gateway, "travel/yoda")
    assert answer(there, "arrived/yoda") == spoken != answer(there, MODEL_NAME)
    assert answer(there, f"arrived/{ours[:12]}/0@0") == answer(there, MODEL_NAME)

    cloned = bread("clone", f"{there.url}/arrived", "cloned")
    assert cloned["commits"] == 1
    assert refs(gateway, "cloned")["yoda"] == ours
    assert answer(gateway, "cloned/yoda") == spoken

    # The next version has another parent: none. So a push of it would lose the one before.
    load(gateway, "travel/yoda", 102)
    newer = refs(gateway, "travel")["yoda"]
    refused = bread("push", "origin", "yoda", "--repo", "travel", code=3)
    assert "rejected (non-fast-forward)" in refused
    assert refs(there, "arrived")["yoda"] == ours
    bread("push", "origin", "yoda", "--force", "--repo", "travel")
    assert answer(there, "arrived/yoda") == answer(gateway, "travel/yoda") != spoken

    assert "non-fast-forward" in bread("pull", "origin", "yoda", "--repo", "cloned", code=3)
    bread("pull", "origin", "yoda", "--force", "--repo", "cloned")
    assert refs(gateway, "cloned")["yoda"] == newer
    assert answer(gateway, "cloned/yoda") == answer(gateway, "travel/yoda")

    folder = f"file:{tmp_path}/backup"
    bread("push", folder, "yoda", "--repo", "travel")
    assert bread("clone", folder, "restored")["commits"] == 1
    assert answer(gateway, "restored/yoda") == answer(gateway, "travel/yoda")


def logprobs(client: httpx.Client, model: str, ids: list[int], context: int) -> list[float]:
    """The engine's log-probabilities of the tokens behind the context."""
    body = {"model": model, "prompt": ids, "max_tokens": 1, "temperature": 0.0, "echo": True, "logprobs": 0}
    reply = client.post("/v1/completions", json=body)
    assert reply.status_code == 200, reply.text
    return [float(each) for each in reply.json()["choices"][0]["logprobs"]["token_logprobs"][context : len(ids)]]


def test_a_version_that_is_not_served_as_its_certificate_says_is_refused(
    gateway: RunningGateway, there: RunningGateway
) -> None:
    load(gateway, "proved/yoda", 103)
    commit = refs(gateway, "proved")["yoda"]
    ids, context = [40, 41, 42, 43, 60, 61, 62, 63, 64, 65], 4
    with client_of(gateway) as source, client_of(there) as target:
        sent = source.get(f"/v1/repo/proved/commits/{commit}/description").json()
        adapter = sent["description"]["adapter"]
        target.post("/v1/repo", json={"repo_name": "proved"})
        content = source.get(f"/v1/repo/proved/blobs/{adapter}").content
        assert target.put(f"/v1/repo/proved/blobs/{adapter}", content=content).status_code == 201
        trained = logprobs(source, "proved/yoda", ids, context)
        base = logprobs(source, MODEL_NAME, ids, context)

        def put(logprobs: list[float], base_logprobs: list[float], tokens: list[int] = ids) -> httpx.Response:
            sequence = {
                "context_ids": tokens[:context],
                "response_ids": tokens[context:],
                "logprobs": logprobs,
                "base_logprobs": base_logprobs,
            }
            notes = {"parity": {"sequences": [sequence], "dtype": "float32"}}
            body = {"description": sent["description"], "notes": notes}
            return target.put(f"/v1/repo/proved/commits/{commit}", json=body)

        # The certificate of another adapter, then ids that the model does not have.
        refused = put([each + 3.0 for each in trained], base)
        assert refused.status_code == 422 and "can't be served here" in refused.json()["message"], refused.text
        unknown = put(trained, base, [*ids[:-1], 1_000_000])
        assert unknown.status_code == 400 and "does not have" in unknown.json()["message"], unknown.text
        known = [each["id"] for each in target.get("/v1/models").json()["data"]]
        assert not any(name.startswith("admin/proved/") for name in known)
        assert put(trained, base).status_code == 201
    assert answer(there, f"proved/{commit[:12]}/0") == answer(gateway, "proved/yoda")
