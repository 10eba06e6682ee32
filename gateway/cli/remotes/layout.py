"""A repo as files: an OCI image layout, whose blobs are named by their SHA-256.

    oci-layout                  the version of the layout
    index.json                  the commits, and the names; written last
    blobs/sha256/<hash>         adapters, descriptions of commits, notes, and a manifest for each commit

The description of a commit is a blob with the commit's id as its name. What is read is not trusted: every document has
a largest size and must have the hash that names it, and paths are made of hashes only.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO, Protocol

import msgspec

from gateway.cli.failures import CliError, Exit
from gateway.cli.remotes import shapes
from gateway.cli.remotes.copying import Move, Node, Record, Ref

LAYOUT, INDEX = "oci-layout", "index.json"
LAYOUT_CONTENT = b'{"imageLayoutVersion":"1.0.0"}'
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
COMMIT_TYPE = "application/vnd.bread.commit.v1+json"
ADAPTER_TYPE = "application/vnd.bread.adapter.v1"
NOTES_TYPE = "application/vnd.bread.notes.v1+json"
DATA_TYPE = "application/vnd.bread.data.v1+json"
REF_NAME, REF_KIND, HEAD_MARK = "org.opencontainers.image.ref.name", "ai.bread.ref.kind", "ai.bread.head"
COMMIT_ID = "ai.bread.commit"
MOST_INDEX_BYTES, MOST_MANIFEST_BYTES, MOST_DOCUMENT_BYTES = 64 << 20, 1 << 20, 64 << 20
CHUNK_BYTES = 1 << 20

Update = Callable[[bytes | None], bytes]
"""Makes the new index.json of the present one; None: there is none."""


class Files(Protocol):
    """Where the files are."""

    label: str

    def open(self, name: str) -> BinaryIO | None:
        """The file, to read; None if there is none."""
        ...

    def part(self, sha256: str, size: int) -> int:
        """Bytes of that blob that are here; `size` if it is whole."""
        ...

    def append(self, sha256: str, size: int, offset: int, chunks: Iterable[bytes]) -> None:
        """Add bytes to a blob, and publish it if it is whole and has the right hash."""
        ...

    def publish(self, update: Update) -> None:
        """Replace index.json by what `update` makes of the newest one. No other writer comes in between."""
        ...


class LayoutRepo:
    """See `copying.Place`."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self.label = files.label
        self._index = _read_index(files.open(INDEX), self.label)
        self._commits: dict[str, dict[str, Any]] | None = None
        self._new: list[dict[str, Any]] = []
        """Entries of index.json that are not written yet."""

    def exists(self) -> bool:
        return self._index is not None

    def create(self) -> None:
        return

    def refs(self) -> dict[str, Ref]:
        return _refs(self._entries())

    def head(self) -> str | None:
        for entry in self._entries():
            notes = entry["annotations"]
            if notes.get(HEAD_MARK) == "true" and shapes.is_name(notes.get(REF_NAME)):
                return str(notes[REF_NAME])
        return None

    def history(self) -> dict[str, Node]:
        nodes = {}
        for commit in self._manifests():
            complaint = f"the description of commit {commit[:12]} in {self.label} is damaged"
            description = shapes.checked(self._description(commit), shapes.Description, complaint)
            nodes[commit] = Node(description.adapter, description.parent_ids)
        return nodes

    def record(self, commit: str, *, with_data: bool) -> Record:
        layers = {layer.get("mediaType"): layer for layer in self._manifests()[commit]["layers"]}
        return {
            "id": commit,
            "description": self._description(commit),
            "notes": self._json(layers[NOTES_TYPE], MOST_DOCUMENT_BYTES) if NOTES_TYPE in layers else {},
            "has_weights": ADAPTER_TYPE in layers,
            "data": self._json(layers[DATA_TYPE], MOST_DOCUMENT_BYTES) if with_data and DATA_TYPE in layers else None,
        }

    def blob_size(self, sha256: str) -> int:
        with self._open(sha256) as file:
            return file.seek(0, 2)

    def read_blob(self, sha256: str, offset: int) -> Iterator[bytes]:
        with self._open(sha256) as file:
            file.seek(offset)
            while chunk := file.read(CHUNK_BYTES):
                yield chunk

    def missing(self, commits: list[str], blobs: list[str]) -> tuple[set[str], set[str]]:
        known = self._manifests()
        here = {
            shapes.hash_of(layer["digest"])
            for manifest in known.values()
            for layer in manifest["layers"]
            if layer.get("mediaType") == ADAPTER_TYPE
        }
        return {*commits} - known.keys(), {*blobs} - here

    def offer_blob(self, sha256: str, size: int) -> int:
        return self._files.part(sha256, size)

    def write_blob(self, sha256: str, size: int, offset: int, chunks: Iterable[bytes]) -> None:
        self._files.append(sha256, size, offset, chunks)

    def write_commit(self, record: Record) -> None:
        description, layers = record["description"], []
        if record["has_weights"]:
            adapter = description["adapter"]
            layers.append({"mediaType": ADAPTER_TYPE, "digest": f"sha256:{adapter}", "size": self.blob_size(adapter)})
        layers.append(self._write(NOTES_TYPE, record["notes"]))
        if record.get("data"):
            layers.append(self._write(DATA_TYPE, record["data"]))
        config = self._write(COMMIT_TYPE, description)
        if shapes.hash_of(config["digest"]) != record["id"]:
            raise CliError(f"commit {record['id'][:12]} was changed on its way: its description has another hash")
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "artifactType": COMMIT_TYPE}
        entry = self._write(MANIFEST_TYPE, manifest | {"config": config, "layers": layers})
        self._new.append(entry | {"annotations": {COMMIT_ID: record["id"]}})

    def move(self, moves: list[Move], *, force: bool) -> None:
        self._publish(moves, None)

    def set_head(self, branch: str) -> None:
        self._publish([], branch)

    def _publish(self, moves: list[Move], head: str | None) -> None:
        def update(content: bytes | None) -> bytes:
            entries = [] if content is None else _entries(_index(content, self.label))
            now = _refs(entries)
            for move in moves:
                current = now.get(move.name)
                if (None if current is None else current.commit) != move.before:
                    raise CliError(
                        f"{move.name} was moved meanwhile in {self.label}: fetch, then push again", Exit.CONFLICT
                    )
            return _index_of(entries, self._new, moves, head)

        self._files.publish(update)
        self._index = _read_index(self._files.open(INDEX), self.label)
        self._new, self._commits = [], None

    def _entries(self) -> list[dict[str, Any]]:
        return [] if self._index is None else _entries(self._index)

    def _manifests(self) -> dict[str, dict[str, Any]]:
        """Id of each commit -> its manifest."""
        if self._commits is None:
            self._commits = {}
            for entry in self._entries():
                if COMMIT_ID in entry["annotations"]:
                    commit = _hash(entry["annotations"][COMMIT_ID])
                    manifest = self._json(entry, MOST_MANIFEST_BYTES)
                    complaint = f"the manifest of commit {commit[:12]} in {self.label} is damaged"
                    described = shapes.checked(manifest, shapes.Manifest, complaint).config.digest
                    if shapes.hash_of(described) != commit:
                        raise CliError(f"{complaint}: it describes {described[7:19]}")
                    self._commits[commit] = manifest
        return self._commits

    def _description(self, commit: str) -> dict[str, Any]:
        return self._json({"digest": f"sha256:{commit}"}, MOST_MANIFEST_BYTES)

    def _json(self, descriptor: dict[str, Any], most: int) -> dict[str, Any]:
        """The document that a descriptor names, if it has that hash."""
        sha256 = shapes.hash_of(descriptor.get("digest"))
        with self._open(sha256) as file:
            content = file.read(most + 1)
        if len(content) > most or hashlib.sha256(content).hexdigest() != sha256:
            raise CliError(f"{sha256[:12]} in {self.label} is damaged: its content has another hash, or is too long")
        return _json_of(content, self.label)

    def _write(self, media_type: str, document: dict[str, Any]) -> dict[str, Any]:
        content = canonical(document)
        sha256 = hashlib.sha256(content).hexdigest()
        if self._files.part(sha256, len(content)) != len(content):
            self._files.append(sha256, len(content), 0, [content])
        return {"mediaType": media_type, "digest": f"sha256:{sha256}", "size": len(content)}

    def _open(self, sha256: str) -> BinaryIO:
        file = self._files.open(f"blobs/sha256/{_hash(sha256)}")
        if file is None:
            raise CliError(f"{sha256[:12]} is missing in {self.label}: the copy there is not complete")
        return file


def canonical(document: object) -> bytes:
    """JSON with sorted keys and without spaces, as servers write what they hash."""
    return msgspec.json.encode(document, order="sorted")


def _read_index(file: BinaryIO | None, label: str) -> dict[str, Any] | None:
    if file is None:
        return None
    with file:
        return _index(file.read(MOST_INDEX_BYTES + 1), label)


def _index(content: bytes, label: str) -> dict[str, Any]:
    if len(content) > MOST_INDEX_BYTES:
        raise CliError(f"index.json in {label} has more than {MOST_INDEX_BYTES} bytes: it is no Bread repo")
    return _json_of(content, label)


def _json_of(content: bytes, label: str) -> dict[str, Any]:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise CliError(f"a document in {label} is not JSON ({error}): it is damaged, or no Bread repo") from None
    if not isinstance(document, dict):
        raise CliError(f"a document in {label} is no JSON object: it is damaged, or no Bread repo")
    return document


def _entries(index: dict[str, Any]) -> list[dict[str, Any]]:
    """Entries of index.json, with their annotations."""
    listed = index.get("manifests")
    if not isinstance(listed, list) or not all(isinstance(each, dict) for each in listed):
        raise CliError("index.json has no list of manifests: it is damaged, or no Bread repo")
    return [
        {**each, "annotations": each["annotations"]} for each in listed if isinstance(each.get("annotations"), dict)
    ]


def _refs(entries: list[dict[str, Any]]) -> dict[str, Ref]:
    refs = {}
    for notes in (entry["annotations"] for entry in entries):
        if REF_NAME in notes:
            if not shapes.is_name(notes[REF_NAME]) or notes.get(REF_KIND) not in ("branch", "tag"):
                raise CliError(
                    f"index.json has the name {str(notes[REF_NAME])[:140]!r}, which no branch or tag can have"
                )
            refs[notes[REF_NAME]] = Ref(notes[REF_KIND], _hash(notes.get(COMMIT_ID)))
    return refs


def _index_of(entries: list[dict[str, Any]], new: list[dict[str, Any]], moves: list[Move], head: str | None) -> bytes:
    known = [each for each in [*entries, *new] if COMMIT_ID in each["annotations"]]
    commits = {_hash(each["annotations"][COMMIT_ID]): each for each in known if REF_NAME not in each["annotations"]}
    refs = {each["annotations"][REF_NAME]: each for each in entries if REF_NAME in each["annotations"]}
    for name, ref, _ in moves:
        target = commits.get(ref.commit)
        if target is None:
            raise CliError(f"{name} would mean commit {ref.commit[:12]}, which is not there")
        notes = {COMMIT_ID: ref.commit, REF_NAME: name, REF_KIND: ref.kind}
        refs[name] = {**target, "annotations": notes}
    if head is not None:
        for name, entry in refs.items():
            entry["annotations"].pop(HEAD_MARK, None)
            if name == head:
                entry["annotations"][HEAD_MARK] = "true"
    return canonical({"schemaVersion": 2, "manifests": [*commits.values(), *refs.values()]})


def _hash(text: Any) -> str:
    return shapes.hash_of(f"sha256:{text}")
