"""Rows of probes: named lists of conversations that versions are compared on."""

from typing import Any

import msgspec

from baker.history.commit import content_id
from baker.storage.rows import Row, Rows, to_json
from baker.types import Message

Conversation = list[Message]
"""Messages that a version is to answer; the last one is not the assistant's."""


class Probe(msgspec.Struct, frozen=True):
    name: str
    conversations: list[Conversation]

    @property
    def sha256(self) -> str:
        """Hash of the conversations as canonical JSON: it changes exactly when they do."""
        return content_id(self.conversations)


class ProbeTable:
    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def put(self, user: str, repo: str, probe: Probe) -> None:
        """Add the probe, or replace the one of its name."""
        self._rows.put(
            "probes", (user, repo, probe.name), conversations=to_json(probe.conversations), sha256=probe.sha256
        )

    def find(self, user: str, repo: str, name: str) -> Probe | None:
        row = self._rows.one("select * from probes where user = ? and repo = ? and name = ?", user, repo, name)
        return None if row is None else _probe(row)

    def of_repo(self, user: str, repo: str) -> list[Probe]:
        """In order of creation."""
        rows = self._rows.all("select * from probes where user = ? and repo = ? order by rowid", user, repo)
        return [_probe(row) for row in rows]

    def remove(self, user: str, repo: str, name: str) -> bool:
        return self._rows.execute("delete from probes where user = ? and repo = ? and name = ?", user, repo, name) > 0


def _probe(row: Row) -> Probe:
    conversations: list[Any] = msgspec.json.decode(row["conversations"])
    return Probe(row["name"], conversations)
