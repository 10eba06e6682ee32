"""The byte stream in which an adapter travels, and how long it may be.

For each of the adapter's two files: a line `<name> <size>`, then the file's bytes. The SHA-256 of the stream is the
adapter's `content_hash`, which its commits name. So a stream can be checked while it arrives.
"""

import hashlib
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import IO, Self

import msgspec

from baker.adapters.files import ADAPTER_CONFIG, ADAPTER_WEIGHTS, FORBIDDEN_TARGETS, open_weights
from baker.errors import InvalidInputError

FILES = (ADAPTER_CONFIG, ADAPTER_WEIGHTS)
MAX_CONFIG_BYTES = 1 << 20
"""Longest adapter_config.json; PEFT writes about 1 KiB."""
MIN_LIMIT_BYTES = 16 << 20
"""The limit is never below this: the base model's files may not show the shapes of its layers."""
FLOAT_BYTES = 4
PACKED = 8
"""Values that one element of an integer type may hold: quantised weights are packed."""
BLOCK_BYTES = 1 << 20
_SHA256 = re.compile(r"[0-9a-f]{64}")
_HEAD_BYTES = 64


def check_sha256(text: str, what: str) -> str:
    """`text` itself, if it is a SHA-256 in hex. Raises: InvalidInputError. Args: what: what it names."""
    if _SHA256.fullmatch(text) is None:
        raise InvalidInputError(f"{what} is {text!r:.80}: it must be a SHA-256 of 64 lower-case hex digits")
    return text


def largest_blob(base: Path, max_rank: int) -> int:
    """Bytes that no adapter of the base model can exceed: rank `max_rank` in float32 on every layer.

    Args: base: folder of the base model. Blocks. Raises: AdapterError; OSError.
    """
    floats = tensors_seen = 0
    for path in sorted(base.glob("*.safetensors")):
        tensors, _ = open_weights(path, any_type=True)
        for name, tensor in tensors.items():
            if len(tensor.shape) < 2 or FORBIDDEN_TARGETS.intersection(name.split(".")):
                continue
            *others, height, width = tensor.shape
            packed = PACKED if tensor.dtype[0] in "IU" else 1
            floats += math.prod(others) * packed * (height + width) * max_rank
            tensors_seen += math.prod(others)
    headers = 2 * 512 * tensors_seen
    return max(MIN_LIMIT_BYTES, floats * FLOAT_BYTES + headers + MAX_CONFIG_BYTES)


def vocabulary(base: Path) -> int | None:
    """Number of tokens of the base model, as its config.json says; None if it does not."""
    try:
        size = msgspec.json.decode((base / "config.json").read_bytes(), type=_ModelConfig).vocab_size
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None
    return size


class _ModelConfig(msgspec.Struct):
    vocab_size: int | None = None


class BlobReader:
    """The stream of the adapter in a folder, to read from any offset. Blocks. Raises: OSError if a file is missing."""

    def __init__(self, folder: Path) -> None:
        self._parts: list[bytes | IO[bytes]] = []
        self._sizes: list[int] = []
        try:
            for name in FILES:
                file = (folder / name).open("rb")
                self._parts.append(file)
                size = file.seek(0, 2)
                head = _head(name, size)
                self._parts.insert(-1, head)
                self._sizes += [len(head), size]
        except OSError:
            self.close()
            raise
        self.size = sum(self._sizes)
        self._at = 0

    def seek(self, offset: int) -> None:
        self._at = offset

    def read(self, size: int) -> bytes:
        """At most `size` bytes, from one part; empty at the end."""
        begin = 0
        for part, length in zip(self._parts, self._sizes, strict=True):
            offset = self._at - begin
            if offset < length:
                count = min(size, length - offset)
                block = part[offset : offset + count] if isinstance(part, bytes) else _read_at(part, offset, count)
                self._at += len(block)
                return block
            begin += length
        return b""

    def close(self) -> None:
        for part in self._parts:
            if not isinstance(part, bytes):
                part.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _read_at(file: IO[bytes], offset: int, size: int) -> bytes:
    file.seek(offset)
    return file.read(size)


def _head(name: str, size: int) -> bytes:
    return f"{name} {size}\n".encode()


def check_layout(file: Path) -> None:
    """Check that the stream in `file` is made of an adapter's two files. Raises: InvalidInputError; OSError."""
    with file.open("rb") as stream:
        _walk(stream, lambda name, size: stream.seek(size, 1))


def unpack(file: Path, folder: Path, sha256: str) -> None:
    """Write the files of the stream in `file` to `folder`, read-only. Blocks.

    Raises: InvalidInputError if the stream is not that adapter; OSError.
    """
    digest = hashlib.sha256()

    def copy(name: str, size: int) -> None:
        digest.update(_head(name, size))
        path = folder / name
        with path.open("xb") as target:
            while size and (block := stream.read(min(BLOCK_BYTES, size))):
                digest.update(block)
                target.write(block)
                size -= len(block)
        path.chmod(0o444)

    with file.open("rb") as stream:
        _walk(stream, copy)
    if digest.hexdigest() != sha256:
        raise wrong_hash(sha256, digest.hexdigest())


def wrong_hash(named: str, actual: str) -> InvalidInputError:
    return InvalidInputError(
        f"The content's SHA-256 is {actual}, but the request names {named}: nothing was kept, send it again"
    )


def _walk(stream: IO[bytes], visit: Callable[[str, int], object]) -> None:
    """Call `visit(name, size)` for each file, with the stream at its first byte; `visit` moves behind its last one."""
    length = stream.seek(0, 2)
    at = stream.seek(0)
    for name in FILES:
        head = stream.readline(_HEAD_BYTES)
        match = re.fullmatch(rb"(\S+) (0|[1-9][0-9]{0,15})\n", head)
        size = 0 if match is None else int(match[2])
        at += len(head) + size
        if match is None or match[1] != name.encode() or at > length:
            raise InvalidInputError(f"The content is not an adapter: expected the line '{name} <size>', got {head!r}")
        if name == ADAPTER_CONFIG and size > MAX_CONFIG_BYTES:
            raise InvalidInputError(f"{name} has {size} bytes, at most {MAX_CONFIG_BYTES} are allowed")
        visit(name, size)
    if at != length:
        raise InvalidInputError(f"The content has {length - at} bytes after the adapter's last file")
