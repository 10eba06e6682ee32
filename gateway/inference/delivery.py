"""The way of one model request's answer to its client, and when to give it up.

A stream that has nothing to say yet, or no more for a while, sends comments, so that nobody in between closes the
connection. The first one is sent, and with it the status 200, only after an interval without a result: most errors come
before and keep their own status. An answer that takes too long, a client that has left and one that takes nothing any
more end the work in the engine at once.

Nothing here runs for each token but `_Pace`, two readings of the clock.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from litestar.types import Message, Receive, Scope, Send

from gateway.engine import Reply, StreamReply
from gateway.errors import ClientLeftError, RequestTimeoutError
from gateway.http.asgi import EVENT_STREAM_HEADERS, WholeReply, disconnected, encoded, send_events
from gateway.inference.model_request import ModelRequest, Outcome

COMMENT = b": keep-alive\n\n"
FAREWELL_SECONDS = 5.0
"""How long a client may take to read that its stream is over."""

Tokens = tuple[int, int] | None


class Patience(NamedTuple):
    """In seconds; 0: no end."""

    answer: float = 0.0
    """From a request's arrival to the end of its answer."""
    keep_alive: float = 0.0
    """Silence before a stream says that it is alive; 0: it doesn't."""
    stall: float = 0.0
    """How long a client may take nothing of what is sent to it."""


class Wire(NamedTuple):
    """How clients of one family are told of errors."""

    reply: Callable[[Exception], Reply]
    """An error as a whole answer."""
    event: Callable[[bytes], bytes]
    """Its body as the last event of a stream that had begun."""


class Delivery:
    """One answer as an ASGI application. `settle` is called once with the outcome, whatever happens."""

    def __init__(
        self,
        exchange: ModelRequest,
        patience: Patience,
        wire: Wire,
        headers: Callable[[], dict[str, str]],
        tokens_so_far: Callable[[str], Tokens],
        settle: Callable[[Outcome], None],
    ) -> None:
        """Args:
        headers: to be added to the answer.
        tokens_so_far: what a request has read and written that still runs, by the engine's id.
        """
        self._exchange = exchange
        self._patience = patience
        self._wire = wire
        self._headers = headers
        self._tokens_so_far = tokens_so_far
        self._settle = settle
        self._work: asyncio.Future[Reply | StreamReply]
        self._watcher: asyncio.Task[None]
        self._given_up: Outcome | None = None

    async def begin(self, work: Awaitable[Reply | StreamReply], receive: Receive, *, is_stream: bool) -> None:
        """Wait until there is something to send: the reply, an error, or for a stream a sign of life.

        The request's body must have been read. Cancelled, it gives up the work.
        """
        self._work = asyncio.ensure_future(work)
        self._watcher = asyncio.create_task(disconnected(receive))
        limits = [self._seconds_left(), self._patience.keep_alive if is_stream else 0.0]
        try:
            await asyncio.wait({self._work, self._watcher}, timeout=_least(limits), return_when=asyncio.FIRST_COMPLETED)
            if not self._work.done() and self._watcher.done():
                await self._give_up(ClientLeftError(), Outcome.CLIENT_LEFT)
            elif not self._work.done() and self._is_late():
                await self._give_up(self._late(), Outcome.TIMEOUT)
        except asyncio.CancelledError:
            await self._give_up(ClientLeftError(), Outcome.CLIENT_LEFT)
            self._settle(Outcome.CLIENT_LEFT)
            raise

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        outcome = Outcome.FAILED
        try:
            reply = await self._reply() if self._work.done() else None
            if isinstance(reply, Reply):
                outcome = self._outcome(reply)
                await WholeReply(reply.status, reply.body, {**reply.headers, **self._headers()})(scope, receive, send)
            else:
                outcome = await self._stream(send)
        finally:
            self._watcher.cancel()
            self._settle(outcome)

    async def _reply(self) -> Reply | StreamReply:
        try:
            return await self._work
        except Exception as error:
            return self._wire.reply(error)

    def _outcome(self, reply: Reply) -> Outcome:
        self._exchange.status = reply.status
        return self._given_up or Outcome.of_status(reply.status)

    async def _stream(self, send: Send) -> Outcome:
        pace = _Pace(send)
        sender = asyncio.create_task(self._send(pace))
        try:
            while True:
                await asyncio.wait(
                    {sender, self._watcher}, timeout=self._seconds_until_due(pace), return_when=asyncio.FIRST_COMPLETED
                )
                if sender.done():
                    return sender.result()
                if self._watcher.done():
                    return Outcome.CLIENT_LEFT
                if pace.is_sending and 0 < self._patience.stall <= pace.seconds:
                    return Outcome.STALLED
                if self._is_late():
                    break
                if not pace.is_sending and 0 < self._patience.keep_alive <= pace.seconds:
                    await self._say_alive(pace)
        finally:
            self._note_tokens()
            await _cancel(sender)
        if not pace.is_sending:
            await self._say_late(pace)
        return Outcome.TIMEOUT

    async def _send(self, send: "_Pace") -> Outcome:
        headers = encoded({**EVENT_STREAM_HEADERS, **self._headers()})
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        if not self._work.done():
            await send(_body(COMMENT))
        reply = await self._reply()
        if isinstance(reply, Reply):
            outcome = self._outcome(reply)
            await send(_body(self._wire.event(reply.body)))
        else:
            self._exchange.note_first_token()
            await send_events(reply, send)
            # The engine's own error events end a stream without a count of its tokens.
            outcome = Outcome.OK if self._exchange.usage.is_final else Outcome.FAILED
        await send(_body(b"", more=False))
        return outcome

    async def _say_alive(self, pace: "_Pace") -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._patience.stall or None):
                await pace(_body(COMMENT))

    async def _say_late(self, pace: "_Pace") -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FAREWELL_SECONDS):
                await pace(_body(self._wire.event(self._wire.reply(self._late()).body)))
                await pace(_body(b"", more=False))

    async def _give_up(self, reason: Exception, outcome: Outcome) -> None:
        """End the work; `reason` takes the place of its result."""
        self._given_up = outcome
        self._note_tokens()
        await _cancel(self._work)
        self._work = asyncio.get_running_loop().create_future()
        self._work.set_exception(reason)
        self._work.exception()  # or else asyncio warns if nobody asks for it
        self._watcher.cancel()

    def _note_tokens(self) -> None:
        """What an answer has cost that will not be finished; the engine forgets it when it is told so."""
        usage = self._exchange.usage
        if not usage.is_final and usage.request_id is not None:
            usage.note(self._tokens_so_far(usage.request_id))

    def _late(self) -> RequestTimeoutError:
        return RequestTimeoutError(
            f"No answer within {self._patience.answer:g} s (--request-timeout-seconds): ask for fewer tokens, or later"
        )

    def _seconds_left(self) -> float:
        """Until it is late, always above 0; 0 if it never is."""
        return max(0.001, self._patience.answer - self._exchange.seconds) if self._patience.answer else 0.0

    def _is_late(self) -> bool:
        return 0 < self._patience.answer <= self._exchange.seconds

    def _seconds_until_due(self, pace: "_Pace") -> float | None:
        """Until there may be something to do about the stream."""
        limit = self._patience.stall if pace.is_sending else self._patience.keep_alive
        silence = max(0.001, limit - pace.seconds) if limit else 0.0
        # A send that begins meanwhile may have to end sooner than the next comment is due.
        return _least([self._seconds_left(), silence, self._patience.stall])


class _Pace:
    """A `send` that knows for how long the client has been waiting for us, or we for the client."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._since = time.monotonic()
        self.is_sending = False
        """Stays true if it is cancelled: the client took nothing then."""

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._since

    async def __call__(self, message: Message) -> None:
        self.is_sending = True
        self._since = time.monotonic()
        await self._send(message)
        self.is_sending = False
        self._since = time.monotonic()


def _body(content: bytes, *, more: bool = True) -> Any:
    return {"type": "http.response.body", "body": content, "more_body": more}


def _least(seconds: list[float]) -> float | None:
    """The shortest of those that are not 0."""
    return min((value for value in seconds if value), default=None)


async def _cancel(task: asyncio.Future[Any]) -> None:
    task.cancel()
    result = (await asyncio.gather(task, return_exceptions=True))[0]
    if isinstance(result, StreamReply):  # it was done before it heard
        await result.aclose()
