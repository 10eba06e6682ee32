"""Sends the answer to one model request, and decides when to give it up.

A stream without events for a while sends comments, so that no proxy closes the connection. The first comment, and with
it status 200, is sent only after an interval without a result: most errors come earlier and keep their own status.

An answer in one piece that takes long does the same with spaces, which JSON allows before a value. If it then fails,
its connection ends without a body: with status 200, clients would read an error as an answer.

The work in the engine ends at once if the answer takes too long, if the client leaves, or if the client stops reading.

The only code here that runs for each token is `_Pace`: two readings of the clock.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from litestar.types import Message, Send

from gateway.engine import StreamReply
from gateway.errors import ClientLeftError, RequestTimeoutError
from gateway.http.asgi import EVENT_STREAM_HEADERS, encoded, send_events, send_reply
from gateway.inference.model_request import ModelRequest, Outcome
from gateway.protocol.replies import Reply

log = logging.getLogger(__name__)

JSON_HEADERS = {"content-type": "application/json", "x-accel-buffering": "no"}
COMMENT, SPACE = b": keep-alive\n\n", b" "
FAREWELL_SECONDS = 5.0
"""Longest time that a client may take to read the last event of a stream that timed out."""

Tokens = tuple[int, int] | None
"""Tokens read and written."""


class Patience(NamedTuple):
    """Time limits in seconds; 0: none."""

    answer: float = 0.0
    """Longest time from a request's arrival to the end of its answer."""
    keep_alive: float = 0.0
    """Silence before a stream sends a comment; 0: it sends none."""
    answer_keep_alive: float = 0.0
    """Silence before an answer in one piece sends a space; 0: it sends none."""
    stall: float = 0.0
    """Longest time that a send may wait for the client to read."""


class ErrorFormat(NamedTuple):
    """How clients of one family read errors."""

    reply: Callable[[Exception], Reply]
    """The error as a whole answer."""
    event: Callable[[bytes], bytes]
    """The body of that answer as the last event of a stream that has begun."""


class Delivery:
    """One answer on its way to its client: `wait`, then `send`, once each."""

    def __init__(
        self,
        work: asyncio.Future[Reply | StreamReply],
        client_left: asyncio.Task[None],
        model_request: ModelRequest,
        patience: Patience,
        errors: ErrorFormat,
        *,
        headers: Callable[[], dict[str, str]],
        tokens_so_far: Callable[[str], Tokens],
    ) -> None:
        """Args:
        work: the answer being made; cancelled when it is given up.
        client_left: done when the client disconnects; cancelled when the answer ends.
        headers: response headers to add, computed when the response begins.
        tokens_so_far: tokens read and written by a request that still runs, by the engine's id of it.
        """
        self._work = work
        self._client_left = client_left
        self._model_request = model_request
        self._patience = patience
        self._errors = errors
        self._headers = headers
        self._tokens_so_far = tokens_so_far
        self._is_stream = False
        self._given_up: Outcome | None = None
        self.outcome = Outcome.FAILED
        """How the request ended: FAILED until that is known."""

    async def wait(self, *, is_stream: bool | None) -> None:
        """Wait until there is something to send: a reply, an error, or what keeps the connection open.

        Args:
            is_stream: None if only the work can tell. Nothing keeps the connection open until it does.

        If it is cancelled, it gives up the work.
        """
        self._is_stream = is_stream is not False
        limits = [self._seconds_left(), 0.0 if is_stream is None else self._keep_alive]
        ends: set[asyncio.Future[Any]] = {self._work, self._client_left}
        try:
            await asyncio.wait(ends, timeout=_least(limits), return_when=asyncio.FIRST_COMPLETED)
            if not self._work.done() and self._client_left.done():
                await self._give_up(ClientLeftError(), Outcome.CLIENT_LEFT)
            elif not self._work.done() and self._is_late():
                await self._give_up(self._late(), Outcome.TIMEOUT)
        except asyncio.CancelledError:
            await self._give_up(ClientLeftError(), Outcome.CLIENT_LEFT)
            raise

    async def send(self, send: Send) -> Outcome:
        """Send what there is, a stream to its end. Returns: how the request ended."""
        try:
            reply = await self._reply() if self._work.done() else None
            if isinstance(reply, Reply):
                self.outcome = self._outcome(reply)  # before it is sent: it holds even if the send fails
                await send_reply(reply, self._headers(), send)
            else:
                self.outcome = await self._stream(send)
            return self.outcome
        finally:
            self._client_left.cancel()

    async def _reply(self) -> Reply | StreamReply:
        try:
            return await self._work
        except Exception as error:
            return self._errors.reply(error)

    def _outcome(self, reply: Reply) -> Outcome:
        self._model_request.status = reply.status
        return self._given_up or Outcome.of_status(reply.status)

    @property
    def _keep_alive(self) -> float:
        return self._patience.keep_alive if self._is_stream else self._patience.answer_keep_alive

    async def _stream(self, send: Send) -> Outcome:
        """Send the events, or a late answer in one piece, in a separate task, and watch its progress."""
        pace = _Pace(send)
        sender = asyncio.create_task(self._send_events(pace) if self._is_stream else self._send_late_answer(pace))
        try:
            while True:
                await asyncio.wait(
                    {sender, self._client_left},
                    timeout=self._seconds_until_due(pace),
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if sender.done():
                    return sender.result()
                if self._client_left.done():
                    return Outcome.CLIENT_LEFT
                if pace.is_sending and 0 < self._patience.stall <= pace.seconds:
                    return Outcome.STALLED
                if self._is_late():
                    break
                if not pace.is_sending and 0 < self._keep_alive <= pace.seconds:
                    await self._send_comment(pace)
        finally:
            self._note_tokens()
            await _cancel(sender)
            await _cancel(self._work)  # a sender that was still at the first comment has not taken it over
        if not self._is_stream:
            self._break_off(self._errors.reply(self._late()))
        elif not pace.is_sending:
            await self._send_timeout(pace)
        return Outcome.TIMEOUT

    async def _send_events(self, send: "_Pace") -> Outcome:
        headers = encoded({**EVENT_STREAM_HEADERS, **self._headers()})
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        if not self._work.done():
            await send(_body(COMMENT))
        reply = await self._reply()
        if isinstance(reply, Reply):
            outcome = self._outcome(reply)
            await send(_body(self._errors.event(reply.body)))
        else:
            self._model_request.note_first_token()
            await send_events(reply, send)
            # A stream that ends with an error event of the engine's has no final count of tokens.
            outcome = Outcome.OK if self._model_request.usage.is_final else Outcome.FAILED
        await send(_body(b"", more=False))
        return outcome

    async def _send_late_answer(self, send: "_Pace") -> Outcome:
        headers = encoded({**JSON_HEADERS, **self._headers()})
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send(_body(SPACE))
        reply = await self._reply()
        assert isinstance(reply, Reply)
        outcome = self._outcome(reply)
        if reply.status >= 400:
            self._break_off(reply)
        else:
            await send(_body(reply.body, more=False))
        return outcome

    def _break_off(self, reply: Reply) -> None:
        """Leave the answer unfinished, so that the server closes the connection and no client reads a result."""
        self._model_request.status = reply.status
        text = reply.body.decode(errors="replace")
        log.warning("request %s failed after its status 200 was sent: %s", self._model_request.id, text)

    async def _send_comment(self, pace: "_Pace") -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._patience.stall or None):
                await pace(_body(COMMENT if self._is_stream else SPACE))

    async def _send_timeout(self, pace: "_Pace") -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FAREWELL_SECONDS):
                await pace(_body(self._errors.event(self._errors.reply(self._late()).body)))
                await pace(_body(b"", more=False))

    async def _give_up(self, reason: Exception, outcome: Outcome) -> None:
        """End the work; `reason` replaces its result."""
        self._given_up = outcome
        self._note_tokens()
        await _cancel(self._work)
        self._work = asyncio.get_running_loop().create_future()
        self._work.set_exception(reason)
        self._work.exception()  # marks it as read: asyncio warns about exceptions that nobody reads
        self._client_left.cancel()

    def _note_tokens(self) -> None:
        """Store what an unfinished answer has cost so far; the engine forgets it when the request is cancelled."""
        usage = self._model_request.usage
        if not usage.is_final and usage.request_id is not None:
            usage.note(self._tokens_so_far(usage.request_id))

    def _late(self) -> RequestTimeoutError:
        return RequestTimeoutError(
            f"No answer within {self._patience.answer:g} s (--request-timeout-seconds): "
            "ask for fewer tokens, or try again later"
        )

    def _seconds_left(self) -> float:
        """Seconds until the answer is late, always above 0; 0 if there is no limit."""
        return max(0.001, self._patience.answer - self._model_request.seconds) if self._patience.answer else 0.0

    def _is_late(self) -> bool:
        return 0 < self._patience.answer <= self._model_request.seconds

    def _seconds_until_due(self, pace: "_Pace") -> float | None:
        """Seconds until the stream may need a comment or its end; None: no limit."""
        limit = self._patience.stall if pace.is_sending else self._keep_alive
        silence = max(0.001, limit - pace.seconds) if limit else 0.0
        # A send that begins meanwhile may have to end before the next comment is due.
        return _least([self._seconds_left(), silence, self._patience.stall])


class _Pace:
    """A `send` that measures how long the client has waited for us, or we for the client."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._since = time.monotonic()
        self.is_sending = False
        """Stays true after a cancelled send: the client had not read what came before."""

    @property
    def seconds(self) -> float:
        """Seconds since the last send began or ended."""
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
    """The shortest of those that are not 0; None if all are."""
    return min((value for value in seconds if value), default=None)


async def _cancel(task: asyncio.Future[Any]) -> None:
    task.cancel()
    result = (await asyncio.gather(task, return_exceptions=True))[0]
    if isinstance(result, StreamReply):  # it was done before it could be cancelled
        await result.aclose()
