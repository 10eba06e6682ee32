"""Users can't see, infer, use or name each other's data, on any route.

Each of bob's requests about alice's data must get the same answer as a request about data that does not exist. The
routes are read from the application, so new ones are tested too; one with a parameter or a body that is not listed
here fails.
"""

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import msgspec
import pytest
from litestar import Litestar
from litestar.handlers import HTTPRouteHandler
from litestar.routes import HTTPRoute

from baker.status import JobState
from baker.storage.files import append_line
from gateway.engine import Reply
from gateway.engine.requests.kinds import Kind
from gateway.protocol import comparison, history, merging, requests, transfer
from gateway.services import Services
from tests.gateway.application import Client, add_user, client_of, finish_bake, holding, new_user, services_in

pytestmark = pytest.mark.anyio

TEXT = {"alice": "ALICES TEXT", "bob": "BOBS TEXT"}
"""A text in everything that each user created. In capitals, because the fake engine answers in capitals."""


class Names(NamedTuple):
    """Names that a request uses."""

    user: str
    repo: str
    prompt: str
    target: str
    bake: str
    branch: str

    @property
    def model(self) -> str:
        return f"{self.user}/{self.repo}/{self.bake}/7"


ALICES = Names("alice", "vault", "vault_prompt", "vault_target", "vault_bake", "vault_topic")
NOBODYS = Names("alicf", "vaulu", "vaulu_prompt", "vaulu_target", "vaulu_bake", "vaulu_topic")
SHARED = Names("bob", "shared", "prompt", "target", "bake", "topic")
"""Alice has a repo with the same names."""

BODIES: dict[type, Any] = {
    requests.RepoPut: lambda of: {"repo_name": "fresh", "base_model": of.model},
    requests.PromptCreate: lambda of: {"prompt_name": of.prompt, "messages": []},
    requests.PromptSet: lambda of: {"messages": []},
    requests.PromptBatch: lambda of: {"prompts": {of.prompt: []}},
    requests.TargetCreate: lambda of: {"target_name": of.target, "template": of.target},
    requests.TargetSet: lambda of: {"template": of.target},
    requests.TargetBatch: lambda of: {"targets": [{"target_name": "new", "template": of.target}]},
    requests.BakeCreate: lambda of: {"bake_name": of.bake, "template": of.bake},
    requests.BakeSet: lambda of: {"template": of.bake},
    requests.BakeBatch: lambda of: {"bakes": [{"bake_name": "new", "template": of.bake}]},
    merging.MergeRequest: lambda of: {"into": of.bake, "others": [of.bake]},
    requests.Promote: lambda of: {"checkpoint": 7},
    history.Step: lambda of: {},
    history.Prune: lambda of: {"prune": True},
    requests.UserCreate: lambda of: new_user(of.user),
    requests.JobDone: lambda of: {"file": "__done_stim", "user": of.user, "repo": of.repo},
    requests.LoraLoad: lambda of: {"lora_name": of.model.rpartition("/")[0], "lora_path": "somewhere"},
    requests.LoraUnload: lambda of: {"lora_name": of.model.rpartition("/")[0]},
    transfer.Have: lambda of: {"commits": ["c" * 64], "blobs": ["a" * 64]},
    transfer.CommitPut: lambda of: {"description": {}},
    transfer.RemotePut: lambda of: {"url": f"https://host/{of.repo}"},
    transfer.RemoteRefs: lambda of: {"refs": {of.bake: None}},
    comparison.ProbePut: lambda of: {"questions": ["Who?"]},
    comparison.DiffRequest: lambda of: {"a": "base", "b": of.bake, "include": ["weights", "recipe"]},
    comparison.BlameRequest: lambda of: {"model": of.bake, "question": "Who?"},
    comparison.BisectRequest: lambda of: {"good": "base", "bad": of.bake, "question": "Who?", "expect": "I"},
    history.RefPut: lambda of: {"kind": "branch", "to": of.bake},
    history.HeadPut: lambda of: {"branch": of.branch},
    requests.ModelReady: lambda of: {"user": of.user, "repo": of.repo, "bake_name": of.bake},
}
INFERENCE = (
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/responses",
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/v1/embeddings",
    "/tokenize",
    "/v1/tokenize",
    "/detokenize",
    "/v1/detokenize",
)
"""Routes with bodies that the application does not describe."""


class Route(NamedTuple):
    path: str
    method: str
    handler: HTTPRouteHandler

    @property
    def is_public(self) -> bool:
        return bool(self.handler.opt.get("public"))

    async def ask(self, client: Client, of: Names, **headers: str) -> httpx.Response:
        parameters = {
            **of._asdict(),
            "key": "0" * 12,
            "probe": "probe",
            "step": "7",
            "file": "x.tar.gz",
            "name": of.branch if "/refs/" in self.path else of.model,
            "path": "x",
            "response": "x",
            "sha256": "a" * 64,
            "rev": of.bake if self.path.endswith(("{rev}", "{step}")) else "c" * 64,
            "remote": "origin",
        }
        path = re.sub(r"{(\w+)}", lambda match: parameters[match[1]], self.path)
        named = {"params": {"name": of.model}} if self.path == "/v1/models/download" else {}
        return await client.request(self.method, path, json=self.body(of), headers=headers, **named)

    def body(self, of: Names) -> Any:
        if self.path in INFERENCE:
            return {"model": of.model, "messages": [{"role": "user", "content": "Hello"}], "prompt": "Hello"}
        data = self.handler.parsed_fn_signature.parameters.get("data")
        return None if data is None else BODIES[data.annotation](of)


def routes(app: Litestar, *methods: str) -> list[Route]:
    """All routes; those that only read come first and those that delete last."""

    def all_routes() -> Iterator[Route]:
        for route in app.routes:
            if isinstance(route, HTTPRoute):
                for handler in route.route_handlers:
                    for method in handler.http_methods:
                        if method != "OPTIONS":
                            yield Route(route.path_format, str(method), handler)

    order = ["GET", "HEAD", "PUT", "POST", "DELETE"]
    routes = sorted(all_routes(), key=lambda route: (order.index(route.method), route.path))
    return [route for route in routes if not methods or route.method in methods]


class Handlers:
    """Replaces vLLM's handlers; answers with the model's name."""

    async def serve(self, kind: Kind, fields: dict[str, Any], headers: Any, *, model: str, usage: Any) -> Reply:
        return Reply(200, msgspec.json.encode({"model": model}))


@pytest.fixture
def services(tmp_path: Path) -> Services:
    return services_in(tmp_path, handlers=Handlers())


@pytest.fixture
async def client(services: Services) -> AsyncIterator[Client]:
    async with filled(services) as opened:
        yield opened


@asynccontextmanager
async def filled(services: Services) -> AsyncIterator[Client]:
    """A client with bob's key. Alice and bob have a repo with the same names, and alice has another repo."""
    async with client_of(services) as opened:
        keys = {name: await add_user(opened, name) for name in ("alice", "bob")}
        await fill(opened, services, SHARED._replace(user="alice"), holding(keys["alice"]))
        await fill(opened, services, SHARED, holding(keys["bob"]))
        await fill(opened, services, ALICES, holding(keys["alice"]), running="vault_running")
        opened.headers.update(holding(keys["bob"]))
        yield opened


async def fill(
    client: Client, services: Services, of: Names, headers: dict[str, str], *, running: str | None = None
) -> None:
    """Create a repo with everything that a repo can hold; each part has the user's text in it."""
    text, repo = TEXT[of.user], f"/v1/repo/{of.repo}"

    async def send(method: str, path: str, body: Any = None) -> Any:
        done = await client.request(method, path, json=body, headers=headers)
        assert done.status_code < 300, done.text
        return done.json()

    await send("POST", "/v1/repo", {"repo_name": of.repo})
    await send("PUT", f"{repo}/prompts/{of.prompt}", {"messages": [{"role": "system", "content": text}]})
    questions = {"type": "hardcoded", "questions": [f"{text}?"]}
    overrides = {"u": of.prompt, "v": "", "generators": [questions]}
    await send("PUT", f"{repo}/targets/{of.target}", {"template": "default", "overrides": overrides})
    for stage in ("stim", "rollout"):
        status = await send("POST", f"{repo}/targets/{of.target}/{stage}")
        assert status["status"] == "complete", status
    await send("PUT", f"{repo}/probes/probe", {"questions": [f"{text}?"]})
    datasets = {"datasets": [{"target": of.target}]}
    for name in filter(None, (of.bake, running)):
        await send("PUT", f"{repo}/bakes/{name}", {"template": "default", "overrides": datasets})
        state = JobState.RUNNING if name == running else JobState.COMPLETE
        folder = await finish_bake(services, of.user, of.repo, name, step=7, state=state)
        append_line(folder / "metrics.jsonl", {"iter": 0, "text": text})
        (folder / "metrics.png").write_text(text)
    await send("PUT", f"{repo}/refs/{of.branch}", {"kind": "branch", "to": of.bake, "message": text})
    await send("PUT", f"{repo}/head", {"branch": of.branch})


def assert_nothing_of_alice(answer: httpx.Response) -> None:
    content = answer.text + str(answer.headers)
    for secret in (TEXT["alice"], "alice", "vault"):
        assert secret.lower() not in content.lower(), f"{answer.request.method} {answer.request.url}"


async def test_requests_about_alices_data_are_answered_as_if_it_did_not_exist(client: Client) -> None:
    for route in routes(client.app):
        hers, nobodys = await route.ask(client, ALICES), await route.ask(client, NOBODYS)
        where = f"{route.method} {route.path}: {hers.status_code} {hers.text[:300]}"
        assert_nothing_of_alice(nobodys)
        assert hers.status_code == nobodys.status_code, where
        if route.is_public and route.method == "GET":
            assert_nothing_of_alice(hers)  # numbers in it change between requests
        else:
            renamed = hers.text.replace("alice", "alicf").replace("vault", "vaulu")
            assert renamed == nobodys.text, f"{where} differs from {nobodys.text[:300]}"


async def test_requests_that_name_alices_data_are_refused(client: Client) -> None:
    refused = {}
    for route in routes(client.app):
        names_something = "{" in route.path or route.path in INFERENCE or route.path == "/v1/models/download"
        is_admins = route.path.startswith("/v1/admin")
        if (names_something or is_admins) and not route.path.startswith("/schema"):
            refused[route.method, route.path] = (await route.ask(client, ALICES)).status_code
    forbidden = {path for (_, path), status in refused.items() if status == 403}
    assert set(refused.values()) == {403, 404}, refused
    assert all(path.startswith(("/v1/admin/", "/v1/files/")) for path in forbidden)
    assert len(refused) > 40, "the routes were found"


async def test_the_same_names_of_two_users_are_independent(client: Client, services: Services) -> None:
    """Bob reads, writes, runs and deletes all that he has. Alice's data of the same names does not change."""
    alice = {"X-User-Id": "alice", **holding("sk-bread-test")}
    reading = [route for route in routes(client.app, "GET") if not route.is_public and "/admin/" not in route.path]

    async def alices() -> dict[str, str]:
        answers = {route.path: await route.ask(client, SHARED._replace(user="alice"), **alice) for route in reading}
        return {path: re.sub(r"expires=\d+&sig=\w+", "", answer.text) for path, answer in answers.items()}

    before = await alices()
    own = []
    for route in routes(client.app):
        answer = await route.ask(client, SHARED)
        assert answer.status_code < 500
        assert_nothing_of_alice(answer)
        own.append(answer.text)
    assert sum(TEXT["bob"] in text for text in own) > 5
    assert sum(TEXT["alice"] in text for text in before.values()) > 5
    assert await alices() == before
    assert (await client.get("/v1/repo")).json()["repos"] == ["fresh"], "bob's own repos were deleted"


async def test_every_route_requires_a_known_key(client: Client) -> None:
    del client.headers["Authorization"]
    for route in routes(client.app):
        if not route.is_public:
            for headers in ({}, holding("sk-bread-wrong")):
                refused = await route.ask(client, SHARED, **headers)
                assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer"), route
    assert (await client.get("/v1/repo", headers=holding("sk-bread-test"))).status_code == 200


async def test_only_the_master_key_may_act_for_alice(client: Client) -> None:
    for route in routes(client.app):
        if not route.is_public:
            refused = await route.ask(client, ALICES, **{"X-User-Id": "alice"})
            assert refused.status_code == 403, route
            unknown = await route.ask(client, NOBODYS, **{"X-User-Id": "alicf"})
            assert refused.text.replace("alice", "alicf") == unknown.text


@pytest.mark.parametrize(
    "form",
    [
        *("{user}/{repo}/{bake}/7", "{user}/{repo}/{bake}", "{repo}/{bake}/7", "{repo}/{bake}"),
        *("{user}/{repo}/{bake}@0.5", "{user}/{repo}/{branch}", "{repo}/{branch}", "{user}/{repo}/{branch}~1"),
        *("{user}/{repo}/{branch}@{{1}}", "{user}/{repo}/{bake}/7~1", "{user}/{repo}/HEAD"),
    ],
)
async def test_alices_bakes_can_not_be_built_upon(tmp_path: Path, form: str) -> None:
    """As base model, as teacher, as question writer and as a bake's parent, on a service that substitutes no model."""
    async with filled(services_in(tmp_path, stands_in=False)) as client:
        hers, nobodys = await build_upon(client, ALICES, form), await build_upon(client, NOBODYS, form)
    assert [answer.status_code for answer in hers] == [400] * 4
    renamed = [answer.text.replace("alice", "alicf").replace("vault", "vaulu") for answer in hers]
    assert renamed == [answer.text for answer in nobodys]
    for answer in nobodys:
        assert_nothing_of_alice(answer)


async def build_upon(client: Client, of: Names, form: str) -> list[httpx.Response]:
    model, repo = form.format(**of._asdict()), "/v1/repo/shared"
    answers = [await client.post("/v1/repo", json={"repo_name": "built", "base_model": model})]
    writer = {"type": "oneshot_qs", "model": model}
    for stage, overrides in (("rollout", {"model_name": model}), ("stim", {"generators": [writer]})):
        created = await client.put(f"{repo}/targets/built", json={"template": "target", "overrides": overrides})
        assert created.status_code == 200, created.text
        if stage == "rollout":
            await client.post(f"{repo}/targets/built/stim")
        answers.append(await client.post(f"{repo}/targets/built/{stage}"))
        await client.delete(f"{repo}/targets/built")
    overrides = {"datasets": [{"target": "target"}], "model": {"parent_model_name": model}}
    await client.put(f"{repo}/bakes/built", json={"template": "default", "overrides": overrides})
    return [*answers, await client.post(f"{repo}/bakes/built")]


async def test_only_the_master_key_sees_names_in_the_metrics(client: Client, services: Services) -> None:
    series = b"# HELP vllm:lora_requests_info x\n# TYPE vllm:lora_requests_info gauge\nvllm:other 1.0\n"
    adapters = b'vllm:lora_requests_info{running_lora_adapters="alice/vault/vault_bake/7"} 1.0\n'
    engine: Any = services.engine
    engine.metrics = lambda: series + adapters
    bobs = await client.get("/metrics")
    del client.headers["Authorization"]
    publics = await client.get("/metrics")
    for answer in (bobs, publics):
        assert_nothing_of_alice(answer)
        assert "lora_requests_info" not in answer.text
        assert "vllm:other 1.0" in answer.text
        assert re.search(r'^bread_bake_progress_percent\{job="\d+"\} 0\.0$', answer.text, re.MULTILINE)
    masters = (await client.get("/metrics", headers=holding("sk-bread-test"))).text
    assert series.decode() + adapters.decode() in masters
    assert re.search(r'^bread_bake_progress_percent\{bake="alice/vault/vault_running",job="\d+"\} 0\.0$', masters, re.M)
    assert (await client.get("/metrics", headers=holding("sk-bread-wrong"))).status_code == 401


async def test_unknown_paths_do_not_appear_in_the_metrics(client: Client) -> None:
    await client.get("/v1/repo/alices-idea/nowhere", headers=holding("sk-bread-test"))
    await client.get("/v1/elsewhere/alices-idea")
    assert_nothing_of_alice(await client.get("/metrics"))


@pytest.mark.parametrize(
    "model",
    [
        *("{user}/{repo}/{bake}/7@0.5", "{user}/{repo}/{bake}/7@0", "{user}/{repo}/{bake}/7@1"),
        *("{user}/{repo}/{bake}/7@3", "{user}/{repo}/{branch}", "{user}/{repo}/{branch}@0.5", "{repo}/{branch}"),
        *("{user}/{repo}/{branch}~1", "{user}/{repo}/{branch}@{{1}}", "{user}/{repo}/{bake}~x", "{user}/{repo}/HEAD"),
    ],
)
async def test_alices_models_are_unknown_to_bob_however_they_are_written(client: Client, model: str) -> None:
    for path in INFERENCE:
        hers, nobodys = [
            await client.post(path, json={"model": model.format(**of._asdict()), "messages": [], "prompt": "Hello"})
            for of in (ALICES, NOBODYS)
        ]
        assert (hers.status_code, nobodys.status_code) == (404, 404), path
        assert hers.text.replace("alice", "alicf").replace("vault", "vaulu") == nobodys.text
        assert_nothing_of_alice(nobodys)


@pytest.mark.parametrize("model", ["alice/vault/vault_bake/7", "vault/vault_bake"])
async def test_users_and_the_master_key_use_their_own_models(client: Client, model: str) -> None:
    chat = {"model": model, "messages": []}
    master = holding("sk-bread-test")
    named = await client.post("/v1/chat/completions", json=chat, headers={**master, "X-User-Id": "alice"})
    assert (named.status_code, named.json()) == (200, {"model": "alice/vault/vault_bake/7"})
    unnamed = await client.post("/v1/chat/completions", json=chat, headers=master)
    assert unnamed.status_code == (200 if model.startswith("alice") else 404), (
        "without a user, the master key reaches alice's model only by its full name"
    )
    own = await client.post("/v1/chat/completions", json={**chat, "model": "bob/shared/bake/7"})
    assert own.json() == {"model": "bob/shared/bake/7"}
    as_bob = await client.post("/v1/chat/completions", json=chat, headers={**master, "X-User-Id": "bob"})
    assert as_bob.status_code == 404
