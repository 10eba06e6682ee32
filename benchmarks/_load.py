"""A cheap load generator: streamed completions over raw sockets, one connection per stream, without parsing.

It may share two cores with the server that it measures, so it only looks for `data: ` and for the end.
"""

import asyncio
import json
import statistics
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from benchmarks._servers import Server

EVENT, END = b"data: ", b"0\r\n\r\n"
TAIL = 5  # bytes: shorter than EVENT, so no event is counted twice, and enough to find END in two pieces


class Load(NamedTuple):
    """Results of one run of requests."""

    finished: int
    failed: int
    """Number of requests answered with an error or not at all: a stream sends nothing more after an error."""
    error: str
    """The first error."""
    chunks: int
    """Number of events, without [DONE]."""
    seconds: float
    first_chunk_seconds: list[float]
    """Seconds to the first event of each finished request, in the order in which they ended."""
    total_seconds: list[float]
    gap_seconds: list[float]
    """Seconds between two arrivals of tokens in one stream, for all streams."""

    @property
    def requests_per_second(self) -> float:
        return self.finished / self.seconds

    @property
    def chunks_per_second(self) -> float:
        return self.chunks / self.seconds

    @property
    def ttft_ms(self) -> float:
        """Median time to the first chunk."""
        return 1000 * statistics.median(self.first_chunk_seconds)


def chat(model: str, text: str, **fields: Any) -> dict[str, Any]:
    """Body of a streamed chat completion: greedy, with a fixed length if `max_tokens` is given."""
    messages = [{"role": "user", "content": text}]
    return {"model": model, "messages": messages, "stream": True, "temperature": 0, "ignore_eos": True, **fields}


def run(server: Server, bodies: Iterable[dict[str, Any]], *, streams: int) -> Load:
    """Send the bodies to /v1/chat/completions, `streams` at a time."""
    import uvloop

    requests = [_request(server, body) for body in bodies]
    return uvloop.run(_run(server, requests, streams))


def _request(server: Server, body: dict[str, Any]) -> bytes:
    content = json.dumps(body).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {server.key}\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


async def _run(server: Server, requests: Sequence[bytes], streams: int) -> Load:
    loop = asyncio.get_running_loop()
    queue = iter(requests)
    pairs = [
        await loop.create_connection(lambda: _Stream(queue), "127.0.0.1", server.port)
        for _ in range(min(streams, len(requests)))
    ]
    connections = [stream for _, stream in pairs]
    started = time.perf_counter()
    for stream in connections:
        stream.next_request()
    await asyncio.gather(*(stream.ended for stream in connections))
    seconds = time.perf_counter() - started
    finished = [answer for stream in connections for answer in stream.answers]
    return Load(
        finished=len(finished),
        failed=len(requests) - len(finished),
        error=next((stream.error for stream in connections if stream.error), ""),
        chunks=sum(answer.chunks for answer in finished),
        seconds=seconds,
        first_chunk_seconds=[answer.first_chunk_seconds for answer in finished],
        total_seconds=[answer.total_seconds for answer in finished],
        gap_seconds=[gap for answer in finished for gap in answer.gap_seconds],
    )


class _Answer(NamedTuple):
    chunks: int
    first_chunk_seconds: float
    total_seconds: float
    gap_seconds: list[float]


class _Stream(asyncio.Protocol):
    """One connection, which sends one request after another from the shared queue until it is empty."""

    def __init__(self, queue: Iterator[bytes]) -> None:
        self._queue = queue
        self.answers: list[_Answer] = []
        self.error = ""
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self._transport: asyncio.Transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(None)

    def next_request(self) -> None:
        request = next(self._queue, None)
        if request is None:
            self._transport.close()
            return
        self._chunks, self._first, self._tail = 0, 0.0, b""
        self._gaps: list[float] = []
        self._started = self._latest = time.perf_counter()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        text = self._tail + data
        self._tail = text[-TAIL:]
        events = text.count(EVENT)
        self._chunks += events
        if not self._first:
            if text.startswith(b"HTTP/1.1 ") and not text.startswith(b"HTTP/1.1 200"):
                self.error = text.decode(errors="replace")
                self._transport.close()
            elif events:
                self._latest = time.perf_counter()
                self._first = self._latest - self._started
        elif events and not text.endswith(END):  # the last piece only ends the stream
            now = time.perf_counter()
            self._gaps.append(now - self._latest)
            self._latest = now
        if text.endswith(END) and not self.error:
            took = time.perf_counter() - self._started
            self.answers.append(_Answer(self._chunks - 1, self._first, took, self._gaps))
            self.next_request()
