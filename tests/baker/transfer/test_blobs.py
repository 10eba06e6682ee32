"""The byte stream of an adapter: its hash is the adapter's, and reading it back gives the same files."""

import hashlib
import itertools
from pathlib import Path

import msgspec
import numpy as np
import pytest
from safetensors.numpy import save_file

from baker.adapters.files import content_hash
from baker.errors import InvalidInputError
from baker.transfer.blobs import (
    MIN_LIMIT_BYTES,
    BlobReader,
    check_layout,
    check_sha256,
    largest_blob,
    unpack,
    vocabulary,
)
from tests.baker.transfer.versions import stream_of, write_adapter


@pytest.mark.parametrize("block", [1, 7, 100, 1 << 20])
def test_the_stream_s_hash_is_the_adapter_s(tmp_path: Path, block: int) -> None:
    sha256 = write_adapter(tmp_path / "adapter", 1)
    with BlobReader(tmp_path / "adapter") as reader:
        blocks = list(iter(lambda: reader.read(block), b""))
    assert b"".join(blocks) == stream_of(tmp_path / "adapter")
    assert reader.size == sum(map(len, blocks))
    assert hashlib.sha256(b"".join(blocks)).hexdigest() == sha256


def test_the_stream_can_be_read_from_every_offset(tmp_path: Path) -> None:
    write_adapter(tmp_path / "adapter", 1)
    whole = stream_of(tmp_path / "adapter")
    with BlobReader(tmp_path / "adapter") as reader:
        for offset in range(0, len(whole) + 1, 13):
            reader.seek(offset)
            assert b"".join(iter(lambda: reader.read(64), b"")) == whole[offset:]


def test_unpacking_gives_the_same_files(tmp_path: Path) -> None:
    source, target, file = tmp_path / "source", tmp_path / "target", tmp_path / "stream"
    sha256 = write_adapter(source, 2)
    file.write_bytes(stream_of(source))
    check_layout(file)
    target.mkdir()
    unpack(file, target, sha256)
    assert content_hash(target) == sha256
    assert {path.name: path.read_bytes() for path in target.iterdir()} == {
        path.name: path.read_bytes() for path in source.iterdir()
    }


def test_what_is_not_that_adapter_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "source"
    sha256 = write_adapter(source, 2)
    whole = stream_of(source)
    config, weights = b"adapter_config.json", b"adapter_model.safetensors"
    hostile = [
        b"",
        whole[:-1],
        whole + b"x",
        whole[1:],
        whole.replace(config, b"../../adapter_config.json"),
        whole.replace(weights, b"/etc/passwd"),
        whole.replace(config, weights),
        b"adapter_config.json 99999999999999\n" + whole[-100:],
        b"adapter_config.json -1\n",
        b"adapter_config.json 007\n" + b"x" * 7,
        b"x" * 200,
    ]
    for number, content in enumerate(hostile):
        file, target = tmp_path / f"{number}", tmp_path / f"target{number}"
        file.write_bytes(content)
        target.mkdir()
        with pytest.raises(InvalidInputError):
            check_layout(file)
        with pytest.raises(InvalidInputError):
            unpack(file, target, sha256)
        assert {path.name for path in target.iterdir()} <= {"adapter_config.json", "adapter_model.safetensors"}
    assert not (tmp_path.parent / "adapter_config.json").exists()


def test_an_other_adapter_is_refused_by_its_hash(tmp_path: Path) -> None:
    write_adapter(tmp_path / "one", 1)
    other = write_adapter(tmp_path / "two", 2)
    (tmp_path / "stream").write_bytes(stream_of(tmp_path / "one"))
    (tmp_path / "target").mkdir()
    with pytest.raises(InvalidInputError, match=other):
        unpack(tmp_path / "stream", tmp_path / "target", other)


@pytest.mark.parametrize("text", ["", "A" * 64, "a" * 63, "a" * 65, "../" + "a" * 61, "a" * 64 + "\n"])
def test_only_lower_case_hex_of_64_digits_is_a_hash(text: str) -> None:
    with pytest.raises(InvalidInputError):
        check_sha256(text, "it")


def test_the_limit_is_above_the_largest_adapter_and_below_twice_of_it(tmp_path: Path) -> None:
    """The largest adapter is written with the highest rank on every layer."""
    rank, layers = 32, [(1024, 4096), (4096, 1024), (2048, 2048)]
    names = [f"model.layers.{number}.mlp.down_proj" for number in range(len(layers) * 8)]
    shapes = dict(zip(names, itertools.cycle(layers), strict=False))
    base = {f"{name}.weight": np.zeros(shape, np.float16) for name, shape in shapes.items()}
    base["model.embed_tokens.weight"] = np.zeros((5000, 2048), np.float16)
    base["model.norm.weight"] = np.zeros(2048, np.float16)
    save_file(base, tmp_path / "model.safetensors")
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}")
    tensors = {}
    for name, (height, width) in shapes.items():
        tensors[f"base_model.model.{name}.lora_A.weight"] = np.zeros((rank, width), np.float32)
        tensors[f"base_model.model.{name}.lora_B.weight"] = np.zeros((height, rank), np.float32)
    save_file(tensors, adapter / "adapter_model.safetensors")
    with BlobReader(adapter) as reader:
        assert reader.size <= largest_blob(tmp_path, rank) <= 1.5 * reader.size
    assert largest_blob(adapter, 0) == MIN_LIMIT_BYTES


def test_the_vocabulary_is_read_from_the_model_s_config(tmp_path: Path) -> None:
    assert vocabulary(tmp_path) is None
    (tmp_path / "config.json").write_bytes(msgspec.json.encode({"vocab_size": 49152, "model_type": "llama"}))
    assert vocabulary(tmp_path) == 49152
    (tmp_path / "config.json").write_text('{"vocab_size": "many"}')
    assert vocabulary(tmp_path) is None
