"""A malformed `Host` header is the client's mistake: 400, and no traceback in the log."""

import logging

import pytest

from tests.gateway.application import Client

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("host", ["a:b", "a:99999", "[::1", "[::1]:99999", "a:-1"])
async def test_a_malformed_host_is_refused_and_named(
    client: Client, caplog: pytest.LogCaptureFixture, host: str
) -> None:
    for path in ("/", "/v1/models", "/v1/health", "/schema"):
        answer = await client.get(path, headers={"Host": host})
        assert (answer.status_code, answer.headers["content-type"]) == (400, "application/json")
        assert repr(host) in answer.json()["message"]
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize("host", ["", "gateway", "gateway:", "gateway.local:8080", "127.0.0.1:0", "[::1]", "[::1]:80"])
async def test_every_other_host_is_served(client: Client, host: str) -> None:
    assert (await client.get("/v1/models", headers={"Host": host})).status_code == 200
