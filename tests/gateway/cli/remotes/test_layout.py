"""A repo as files: what is written can be read back, on any machine, and what was tampered with is refused."""

import hashlib
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from baker.history.commit import canonical as canonical_of_commits
from gateway.cli.failures import CliError
from gateway.cli.remotes import folder, layout
from gateway.cli.remotes.copying import Move, Ref, copy
from gateway.cli.remotes.folder import Folder
from gateway.cli.remotes.layout import LayoutRepo, canonical
from gateway.cli.remotes.progress import Silent
from tests.gateway.cli.remotes.memory import Memory


@pytest.fixture
def source() -> Memory:
    source = Memory()
    root = source.add("root \x1b[2J ünï 💥")
    tip = source.add("tip", root)
    source.names = {"yoda": Ref("branch", tip), "v1": Ref("tag", root)}
    return source


def pushed(source: Memory, path: Path, *, with_data: bool = False) -> LayoutRepo:
    target = LayoutRepo(Folder(path))
    tips = [ref.commit for ref in source.names.values()]
    copy(source, target, tips, with_data=with_data, report=Silent(), history=source.history())
    there = target.refs()
    target.move(
        [Move(name, ref, there[name].commit if name in there else None) for name, ref in source.names.items()],
        force=False,
    )
    return target


def pulled(path: Path, *, with_data: bool = False) -> Memory:
    there, target = LayoutRepo(Folder(path)), Memory()
    refs = there.refs()
    tips = [ref.commit for ref in refs.values()]
    copy(there, target, tips, with_data=with_data, report=Silent(), history=there.history())
    target.names = refs
    return target


def test_what_is_pushed_to_a_folder_is_pulled_from_it(source: Memory, tmp_path: Path) -> None:
    there = pushed(source, tmp_path / "backup")
    there.set_head("yoda")
    target = pulled(tmp_path / "backup")
    assert target.blobs == source.blobs
    assert target.commits == {key: {**record, "data": None} for key, record in source.commits.items()}
    assert target.names == source.names
    assert LayoutRepo(Folder(tmp_path / "backup")).head() == "yoda"
    assert LayoutRepo(Folder(tmp_path / "nothing")).exists() is False


def test_data_is_in_the_folder_only_on_request(source: Memory, tmp_path: Path) -> None:
    pushed(source, tmp_path / "plain")
    assert not any(b"secret" in path.read_bytes() for path in (tmp_path / "plain").rglob("*") if path.is_file())
    pushed(source, tmp_path / "full", with_data=True)
    assert pulled(tmp_path / "full", with_data=True).commits == source.commits


def test_the_folder_has_the_form_of_an_oci_layout(source: Memory, tmp_path: Path) -> None:
    pushed(source, tmp_path)
    assert json.loads((tmp_path / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    index = json.loads((tmp_path / "index.json").read_text())
    assert index["schemaVersion"] == 2
    for path in (tmp_path / "blobs/sha256").iterdir():
        assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name
    for entry in index["manifests"]:
        content = (tmp_path / "blobs/sha256" / entry["digest"].removeprefix("sha256:")).read_bytes()
        assert (entry["size"], entry["mediaType"]) == (len(content), json.loads(content)["mediaType"])
        config = json.loads(content)["config"]["digest"]
        assert config == f"sha256:{entry['annotations']['ai.bread.commit']}", "the config's digest is the commit's id"
    names = [entry["annotations"].get("org.opencontainers.image.ref.name") for entry in index["manifests"]]
    assert sorted(filter(None, names)) == ["v1", "yoda"]


def test_a_second_push_adds_only_what_is_new(source: Memory, tmp_path: Path) -> None:
    pushed(source, tmp_path)
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "blobs/sha256").iterdir()}
    source.names["yoda"] = Ref("branch", source.add("newer", source.names["yoda"].commit))
    pushed(source, tmp_path)
    assert {path: path.stat().st_mtime_ns for path in written} == written
    assert len(pulled(tmp_path).commits) == 3


def test_a_name_that_moved_meanwhile_is_not_moved(source: Memory, tmp_path: Path) -> None:
    one = LayoutRepo(Folder(tmp_path))
    pushed(source, tmp_path)
    moves = [Move("yoda", source.names["yoda"], None)]
    copy(source, one, [source.names["yoda"].commit], with_data=False, report=Silent(), history=source.history())
    with pytest.raises(CliError, match="was moved meanwhile"):
        one.move(moves, force=True)
    with pytest.raises(CliError, match="is not there"):
        LayoutRepo(Folder(tmp_path)).move([Move("new", Ref("branch", "f" * 64), None)], force=False)


def tampered(path: Path, change: Any) -> None:
    index = json.loads((path / "index.json").read_text())
    change(index)
    (path / "index.json").write_text(json.dumps(index))


def test_hostile_folders_are_refused(source: Memory, tmp_path: Path) -> None:
    tip = source.names["yoda"].commit

    def entry(index: Any, key: str) -> Any:
        return next(each for each in index["manifests"] if key in each["annotations"])

    name = "org.opencontainers.image.ref.name"
    changes: dict[str, Any] = {
        "digest": lambda index: entry(index, name).update(digest="sha256:../../../etc/passwd"),
        "no digest": lambda index: entry(index, "ai.bread.commit").update(digest="sha256:" + "f" * 64),
        "name": lambda index: entry(index, name)["annotations"].update({name: "../up"}),
        "kind": lambda index: entry(index, name)["annotations"].update({"ai.bread.ref.kind": "head"}),
        "other commit": lambda index: index["manifests"][0]["annotations"].update({"ai.bread.commit": "f" * 64}),
        "no hash": lambda index: index["manifests"][0]["annotations"].update({"ai.bread.commit": ["x"]}),
        "unknown commit": lambda index: entry(index, name)["annotations"].update({"ai.bread.commit": "e" * 64}),
        "no list": lambda index: index.update(manifests={}),
        "no objects": lambda index: index.update(manifests=[1]),
    }
    for number, (what, change) in enumerate(changes.items()):
        path = tmp_path / str(number)
        pushed(source, path)
        tampered(path, change)
        with pytest.raises(CliError):
            pulled(path)
            raise AssertionError(what)
    for number, content in enumerate((b"", b"[]", b"\xff", b"{" * 100_000, b'{"manifests": 1}')):
        path = tmp_path / f"index{number}"
        path.mkdir()
        (path / "index.json").write_bytes(content)
        with pytest.raises(CliError):
            LayoutRepo(Folder(path)).refs()
    path = tmp_path / "description"
    pushed(source, path)
    blob = path / "blobs/sha256" / tip
    blob.write_bytes(blob.read_bytes().replace(b"tip", b"top"))
    with pytest.raises(CliError, match="is damaged"):
        pulled(path)


def written(path: Path, document: Any) -> str:
    """Add a document, as anybody can who may write to the folder. Returns: its digest."""
    content = json.dumps(document).encode()
    sha256 = hashlib.sha256(content).hexdigest()
    (path / "blobs/sha256" / sha256).write_bytes(content)
    return f"sha256:{sha256}"


DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    "manifest",
    [
        {},
        {"layers": []},
        {"config": {}, "layers": []},
        {"config": [], "layers": []},
        {"config": {"digest": 5}, "layers": []},
        {"config": {"digest": DIGEST}, "layers": [5]},
        {"config": {"digest": DIGEST}, "layers": [{}]},
        {"config": {"digest": DIGEST}, "layers": [{"digest": "sha256:../up"}]},
        {"config": {"digest": DIGEST}, "layers": {}},
        {"config": {"digest": DIGEST}, "layers": []},
    ],
)
def test_manifests_of_another_form_are_one_line(source: Memory, tmp_path: Path, manifest: Any) -> None:
    pushed(source, tmp_path)
    digest = written(tmp_path, manifest)
    tampered(tmp_path, lambda index: index["manifests"][0].update(digest=digest))
    with pytest.raises(CliError, match="the manifest of commit") as raised:
        pulled(tmp_path)
    assert "\n" not in raised.value.message


@pytest.mark.parametrize(
    "description",
    [
        {},
        {"adapter": "a" * 64},
        {"adapter": "../up", "parents": []},
        {"adapter": 5, "parents": []},
        {"adapter": "a" * 64, "parents": ["b" * 64]},
        {"adapter": "a" * 64, "parents": [{"id": "../up"}]},
        {"adapter": "a" * 64, "parents": [{}]},
        {"adapter": "a" * 64, "parents": 5},
    ],
)
def test_descriptions_of_another_form_are_one_line(source: Memory, tmp_path: Path, description: Any) -> None:
    pushed(source, tmp_path)
    config = written(tmp_path, description)
    digest = written(tmp_path, {"config": {"digest": config}, "layers": []})
    notes = {"ai.bread.commit": config.removeprefix("sha256:")}
    tampered(tmp_path, lambda index: index["manifests"].append({"digest": digest, "annotations": notes}))
    with pytest.raises(CliError, match="the description of commit"):
        pulled(tmp_path)


def test_an_index_with_entries_of_another_form_is_one_line(source: Memory, tmp_path: Path) -> None:
    changes: list[Any] = [
        lambda index: index["manifests"][0].pop("digest"),
        lambda index: index["manifests"][0].update(digest=None),
        lambda index: index["manifests"].append({"annotations": {"org.opencontainers.image.ref.name": "main"}}),
        lambda index: index["manifests"][0]["annotations"].update({"ai.bread.commit": {}}),
    ]
    for number, change in enumerate(changes):
        path = tmp_path / str(number)
        pushed(source, path)
        tampered(path, change)
        with pytest.raises(CliError):
            pulled(path)
        with pytest.raises(CliError):
            pushed(source, path)


def test_an_index_that_is_too_long_is_not_read(source: Memory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = pushed(source, tmp_path)
    for module in (folder, layout):
        monkeypatch.setattr(module, "MOST_INDEX_BYTES", 1000)
    with pytest.raises(CliError, match=r"index.json in .* has more than 1000 bytes"):
        LayoutRepo(Folder(tmp_path))
    with pytest.raises(CliError, match="has more than 1000 bytes"):
        there.set_head("yoda")


def test_entries_of_other_tools_are_left_alone(source: Memory, tmp_path: Path) -> None:
    other = {"digest": DIGEST, "size": 1, "annotations": {"com.example": "x"}}
    pushed(source, tmp_path)
    tampered(tmp_path, lambda index: index["manifests"].append(other))
    source.names["yoda"] = Ref("branch", source.add("newer", source.names["yoda"].commit))
    pushed(source, tmp_path)
    assert pulled(tmp_path).names == source.names


def test_links_and_devices_in_a_folder_are_not_followed(source: Memory, tmp_path: Path) -> None:
    path = tmp_path / "backup"
    there = pushed(source, path)
    adapter = source.commits[source.names["yoda"].commit]["description"]["adapter"]
    blob = path / "blobs/sha256" / adapter
    content = blob.read_bytes()
    blob.unlink()
    (tmp_path / "elsewhere").write_bytes(content)
    blob.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CliError):
        there.blob_size(adapter)
    blob.unlink()
    blob.mkdir()
    with pytest.raises(CliError):
        there.blob_size(adapter)


def test_documents_are_written_as_servers_hash_them() -> None:
    for document in (
        {"b": 1.0, "a": 1e-7, "c": [1e22, 0.1, -0.0, 3]},
        {"text": '\x00\x1f\x7f\u2028ü💥"\\/', "none": None},
    ):
        assert canonical(document) == canonical_of_commits(document)
        assert msgspec.json.decode(canonical(document)) == document
