from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from chat_with_model import ChatClient, Conversation
from tests.chat.server import KEY, Server, serving
from tests.chat.terminal import Terminal, open_chat


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server, serving(server):
        yield server


@pytest.fixture
def conversation(server: Server) -> Iterator[Conversation]:
    client = ChatClient(server.url, KEY)
    yield Conversation(client, "hooli/gavin_bake", temperature=0.5)
    client.close()


@pytest.fixture
def terminal(server: Server, tmp_path: Path) -> Iterator[Terminal]:
    terminal = open_chat(server.url, tmp_path, "--model", "hooli/gavin_bake")
    yield terminal
    terminal.child.close(force=True)
