"""Two gateways in this process, each with a fake engine, and the `bread` command of a user of the first one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import httpx
import pytest
from litestar.testing import TestClient

from baker.history.commit import Commit
from baker.repos.catalog import Catalog
from baker.types import Checkpoint
from gateway.app import build_app
from gateway.services import Services
from tests.baker.transfer.versions import add_version
from tests.gateway.application import KEY, services_in
from tests.gateway.cli.conftest import URL, Bread

OTHER = "http://other.local"
Result = TypeVar("Result")


class Gateway(NamedTuple):
    services: Services
    client: httpx.Client

    def catalog(self, function: Callable[[Catalog], Result]) -> Result:
        async def call() -> Result:
            return await self.services.catalog(function)

        return asyncio.run(call())

    def add(self, bake: str, seed: int, parent: Checkpoint | None = None) -> Checkpoint:
        """Add a version, which is the newest of its bake."""
        inputs = {} if parent is None else {"checkpoint": parent.name}
        checkpoint = self.catalog(lambda catalog: add_version(catalog, bake, seed, **inputs))
        self.services.registry.publish(checkpoint)
        return checkpoint

    def commits(self, repo: str = "repo") -> dict[str, Commit]:
        return self.catalog(lambda catalog: catalog.history.commits.of_repo("admin", repo))

    def put_ref(self, name: str, to: str, kind: str = "branch", repo: str = "repo") -> None:
        answer = self.client.put(f"/v1/repo/{repo}/refs/{name}", json={"kind": kind, "to": to})
        assert answer.is_success, answer.text

    def refs(self, repo: str = "repo") -> dict[str, tuple[str, str]]:
        """Name -> kind and commit."""
        answer = self.client.get(f"/v1/repo/{repo}/refs").json()
        return {each["name"]: (each["kind"], each["commit"]) for each in answer["refs"]}


class Pair(NamedTuple):
    here: Gateway
    there: Gateway
    bread: Bread
    requests: list[httpx.Request]
    """What the command asked."""

    def run(self, *arguments: str, code: int = 0) -> Any:
        """Run a command with `--json`. Returns: its document, or the error's text."""
        shown = self.bread(*arguments, "--json")
        assert shown.code == code, shown
        return json.loads(shown.out) if code == 0 else shown.err


class Served(NamedTuple):
    gateways: dict[str, Gateway]
    transports: dict[str, httpx.MockTransport]


@pytest.fixture(scope="session")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The gateways, for all tests: `pair` empties them."""
    with ExitStack() as stack:
        gateways, transports = {}, {}
        for url in (URL, OTHER):
            services = services_in(tmp_path_factory.mktemp(httpx.URL(url).host))
            app = stack.enter_context(TestClient(build_app(services), base_url=url))
            transports[url] = transport = httpx.MockTransport(app._transport.handle_request)
            headers = {"Authorization": f"Bearer {KEY}"}
            client = stack.enter_context(httpx.Client(base_url=url, headers=headers, transport=transport))
            gateways[url] = Gateway(services, client)
        yield Served(gateways, transports)


@pytest.fixture
def pair(both: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Pair:
    requests: list[httpx.Request] = []
    for gateway in both.gateways.values():
        for repo in gateway.client.get("/v1/repo").json()["repos"]:
            gone = gateway.client.delete(f"/v1/repo/{repo}")
            assert gone.is_success, gone.text

    def route(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return both.transports[f"http://{request.url.host}"].handle_request(request)

    bread = Bread(tmp_path, capsys, httpx.MockTransport(route))
    bread.session().settings.logins.save(OTHER, api_key=KEY)
    return Pair(both.gateways[URL], both.gateways[OTHER], bread, requests)
