"""Versions that travel between two running services, each with its own engine, by the `bread` command."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.cli.remotes.places import key_variable
from tests.cutting_proxy import CuttingProxy
from tests.gateway.application import new_user
from tests.gateway.engines import HELLO, MODEL_NAME, make_adapter
from tests.service import ROOT, RunningGateway

CHAT = {"messages": HELLO, "max_tokens": 12, "temperature": 0.0, "ignore_eos": True}


class Shell:
    """A user of the first service, with a remote on the second."""

    def __init__(self, here: RunningGateway, there: RunningGateway, folder: Path, key: str | None = None) -> None:
        """Args: key: for the second service; None: its master key."""
        self.here, self.there, self._folder = here, there, folder
        self._environment = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(folder),
            "PYTHONPATH": str(ROOT),
            "BREAD_BASE_URL": here.url,
            "BREAD_API_KEY": here.key,
            key_variable("origin"): key or there.key,
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


def test_a_push_that_broke_goes_on_at_the_byte_where_it_stopped(
    gateway: RunningGateway, there: RunningGateway, tmp_path: Path
) -> None:
    """All connections are cut in the middle of the adapter, and again at each attempt of the same command."""
    bread, proxy = Shell(gateway, there, tmp_path), CuttingProxy(there.url)
    load(gateway, "cut/yoda", 105)
    bread("remote", "add", "origin", f"{proxy.url}/cut", "--repo", "cut")
    with client_of(gateway) as source, client_of(there) as target:
        commit = refs(gateway, "cut")["yoda"]
        adapter = source.get(f"/v1/repo/cut/commits/{commit}").json()["adapter"]
        size = int(source.head(f"/v1/repo/cut/blobs/{adapter}").headers["content-length"])
        proxy.most = size // 2
        broken = bread("push", "origin", "yoda", "--repo", "cut", code=5)
        assert "the same command goes on where this one stopped" in broken
        standing = target.head(f"/v1/repo/cut/blobs/{adapter}")
        here = int(standing.headers["upload-offset"])
        assert 0 < here <= proxy.most and standing.headers["upload-complete"] == "?0"
        assert not any("/cut" in each["id"] for each in target.get("/v1/models").json()["data"])
        proxy.most, proxy.sent = None, 0
        pushed = bread("push", "origin", "yoda", "--repo", "cut")
        assert pushed["bytes"] == size - here <= proxy.sent < size - here + 50_000
    proxy.close()
    assert answer(there, "cut/yoda") == answer(gateway, "cut/yoda")


def test_a_poisoned_or_huge_adapter_is_refused_and_nothing_is_served(
    gateway: RunningGateway, there: RunningGateway
) -> None:
    load(gateway, "poison/yoda", 107)
    commit = refs(gateway, "poison")["yoda"]
    with client_of(gateway) as source, client_of(there) as target:
        description = source.get(f"/v1/repo/poison/commits/{commit}/description").json()["description"]
        adapter = description["adapter"]
        blob, place = f"/v1/repo/poison/blobs/{adapter}", f"/v1/repo/poison/commits/{commit}"
        content = source.get(blob).content
        poisoned = bytearray(content)
        poisoned[-1] ^= 1
        target.post("/v1/repo", json={"repo_name": "poison"})
        refused = target.put(blob, content=bytes(poisoned))
        assert refused.status_code == 400 and "SHA-256" in refused.json()["message"], refused.text
        assert target.head(blob).status_code == 404, "nothing of it was kept"
        assert target.put(place, json={"description": description}).status_code == 409, "its weights are not here"

        huge = 1 << 40
        asked = target.put(blob, headers={"Content-Range": f"bytes */{huge}"})
        assert asked.status_code == 413 and str(huge) in asked.json()["message"], asked.text
        with socket.create_connection((target.base_url.host, target.base_url.port or 80), timeout=60) as raw:
            head = (
                f"PUT {blob} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {there.key}\r\nContent-Length: {huge}\r\n\r\n"
            )
            raw.sendall(head.encode() + b"x" * 1000)
            assert raw.recv(100).startswith(b"HTTP/1.1 413 "), "before the body came"
        assert target.head(blob).status_code == 404
        assert not any("poison" in each["id"] for each in target.get("/v1/models").json()["data"])
        assert target.put(blob, content=content).status_code == 201
        assert target.put(place, json={"description": description}).status_code == 201


def test_another_user_s_key_neither_sees_nor_changes_a_repo(
    gateway: RunningGateway, there: RunningGateway, tmp_path: Path
) -> None:
    """The same push with the other key makes a repo of that user, and sends all bytes: a hash gives nothing."""
    bread = Shell(gateway, there, tmp_path)
    load(gateway, "private/yoda", 109)
    url = f"{there.url}/private"
    bread("remote", "add", "origin", url, "--repo", "private")
    first = bread("push", "origin", "yoda", "--repo", "private")
    commit = refs(there, "private")["yoda"]
    with client_of(there) as admin:
        made = admin.post("/v1/admin/users", json=new_user("mallory"))
        assert made.status_code == 200, made.text
        key = made.json()["api_key"]
        adapter = admin.get(f"/v1/repo/private/commits/{commit}").json()["adapter"]
        before = admin.get("/v1/repo/private/operations").json()
    with httpx.Client(base_url=there.url, headers={"Authorization": f"Bearer {key}"}, timeout=60) as mallory:
        paths = ("refs", "commits", f"commits/{commit}", f"commits/{commit}/description", f"blobs/{adapter}")
        assert {mallory.get(f"/v1/repo/private/{path}").status_code for path in paths} == {404}
        moved = mallory.put("/v1/repo/private/refs/yoda", json={"kind": "branch", "to": commit, "force": True})
        assert moved.status_code == 404
        assert mallory.post("/v1/repo/private/have", json={"blobs": [adapter]}).status_code == 404
    other = Shell(gateway, there, tmp_path, key)
    assert "not there, or not for this key" in other("clone", url, "stolen", code=4)
    pushed = other("push", "origin", "yoda", "--repo", "private")
    assert (pushed["adapters"], pushed["bytes"]) == (1, first["bytes"])
    assert refs(there, "private")["yoda"] == commit
    with client_of(there) as admin:
        assert admin.get("/v1/repo/private/operations").json() == before


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
