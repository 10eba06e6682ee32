"""HEAD answers what GET would, without the body."""

import socket
from typing import Any
from urllib.parse import urlsplit

import pytest
from litestar import Litestar
from litestar.routes import HTTPRoute

from gateway.app import build_app
from gateway.http.heads import with_head
from gateway.services import Services
from tests.asgi_server import served
from tests.gateway.application import KEY, Client, finish_bake, holding, make_bake

pytestmark = pytest.mark.anyio

CHANGING = {"x-request-id", "request-id", "date", "content-length"}


def paths(app: Litestar) -> list[str]:
    """A path of each route that has GET, with values for its parameters."""
    values = {"repo:str": "repo", "bake:str": "bake", "name:path": "fake/base", "user:str": "admin"}
    found = []
    for route in app.routes:
        if isinstance(route, HTTPRoute) and "GET" in route.methods:
            path = route.path
            for parameter in route.path_parameters.values():
                text = parameter.full
                path = path.replace(f"{{{text}}}", values.get(text, "1"))
            found.append(path)
    return found


async def test_every_route_with_get_answers_head_alike(client: Client, services: Services) -> None:
    await make_bake(client, "admin")
    await finish_bake(services, "admin")
    paths_of_app = paths(build_app(services))
    assert {"/v1/models", "/health", "/metrics", "/v1/repo/repo", "/schema/openapi.json"} <= set(paths_of_app)
    for path in [*paths_of_app, "/nowhere", "/v1/nowhere", "/v1/models/none", "/v1//models/"]:
        get, head = await client.get(f"http://gateway.local{path}"), await client.head(f"http://gateway.local{path}")
        assert (head.status_code, head.content) == (get.status_code, b""), path
        for name in get.headers.keys() - CHANGING:
            assert head.headers[name] == get.headers[name], (path, name)
        if path != "/metrics":  # it counts these requests
            assert head.headers["content-length"] == str(len(get.content)), path


async def test_head_needs_the_same_key(client: Client) -> None:
    for path in ("/v1/models", "/v1/repo"):
        refused = await client.head(path, headers=holding("wrong"))
        assert (refused.status_code, refused.content) == (401, b"")


async def test_head_is_refused_where_there_is_no_get(client: Client) -> None:
    refused = await client.head("/v1/chat/completions")
    assert (refused.status_code, refused.headers["allow"], refused.content) == (405, "OPTIONS, POST", b"")


async def test_allow_names_head_where_get_is_allowed(client: Client) -> None:
    for answer in (await client.options("/v1/models"), await client.delete("/v1/models")):
        assert answer.headers["allow"] == "GET, HEAD, OPTIONS"
    assert (await client.options("/v1/completions")).headers["allow"] == "OPTIONS, POST"


@pytest.mark.parametrize("path", ["/v1/admin/users", "/v1/admin/done_job", "/v1/load_lora_adapter"])
async def test_options_needs_no_key_where_the_route_needs_the_master_key(client: Client, path: str) -> None:
    for headers in ({}, holding("wrong"), {"Origin": "http://page.test"}):
        answer = await client.options(path, headers=headers)
        assert (answer.status_code, "POST" in answer.headers["allow"]) == (204, True)
    assert with_head("POST,GET") == "GET, HEAD, POST"


def test_a_connection_stays_in_step_after_head(services: Services) -> None:
    """A body after HEAD would be read as the next answer."""
    with served(build_app(services)) as url:
        where: Any = urlsplit(url)
        with socket.create_connection((where.hostname, where.port), timeout=30) as connection:
            head = f"HEAD /v1/models HTTP/1.1\r\nhost: {where.netloc}\r\nauthorization: Bearer {KEY}\r\n\r\n"
            connection.sendall(head.encode() * 2 + head.encode().replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
            with connection.makefile("rb") as answers:
                text = answers.read()
    assert text.count(b"HTTP/1.1 200 OK") == 3 and text.endswith(b"\r\n\r\n") and b"{" not in text
