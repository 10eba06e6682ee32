"""Where every model request enters: admission, its body, its answer, and at its end the count and the log line."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from litestar import Request
from litestar.types import ASGIApp

from gateway.access.auth import Caller
from gateway.engine import Reply, StreamReply
from gateway.engine.requests.body import parse
from gateway.errors import OverloadedError, RequestTimeoutError
from gateway.http.asgi import WholeReply
from gateway.http.request_ids import request_id
from gateway.inference.admission import Admission
from gateway.inference.delivery import Delivery, Patience, Tokens, Wire
from gateway.inference.model_request import ModelRequest, Outcome
from gateway.inference.request_log import RequestLog
from gateway.inference.request_metrics import RequestMetrics

Work = Callable[[ModelRequest, dict[str, Any]], Awaitable[Reply | StreamReply]]
"""Answers the fields of a body; says in the exchange which model it is."""
PROMPT_FIELDS = ("messages", "prompt", "input", "system", "instructions")


class Traffic:
    def __init__(
        self,
        admission: Admission,
        patience: Patience,
        log: RequestLog,
        tokens_so_far: Callable[[str], Tokens],
    ) -> None:
        self.admission = admission
        self.metrics = RequestMetrics(admission)
        self._patience = patience
        self._log = log
        self._tokens_so_far = tokens_so_far

    async def answer(self, request: Request[Any, Any, Any], caller: Caller, wire: Wire, work: Work) -> ASGIApp:
        """The answer to a model request, or what is wrong with it, as its family of clients reads it."""
        exchange = ModelRequest(request_id(request.scope), request.scope["path_template"], caller)
        try:
            place = self.admission.enter(caller.key)
        except Exception as error:
            return self._refusal(exchange, wire, error, {})

        def settle(outcome: Outcome) -> None:
            place.leave(sum(exchange.usage.tokens or ()))
            self._end(exchange, outcome)

        try:
            fields = await self._fields(request)
        except Exception as error:
            place.leave(0)
            return self._refusal(exchange, wire, error, place.headers)
        except BaseException:
            settle(Outcome.CLIENT_LEFT)
            raise
        exchange.prompt = {name: fields[name] for name in PROMPT_FIELDS if name in fields}
        delivery = Delivery(exchange, self._patience, wire, lambda: place.headers, self._tokens_so_far, settle)
        await delivery.begin(work(exchange, fields), request.receive, is_stream=fields.get("stream") is True)
        return delivery

    async def _fields(self, request: Request[Any, Any, Any]) -> dict[str, Any]:
        try:
            async with asyncio.timeout(self._patience.answer or None):
                return parse(await request.body())
        except TimeoutError:
            raise RequestTimeoutError(f"The body did not arrive within {self._patience.answer:g} s") from None

    def _refusal(self, exchange: ModelRequest, wire: Wire, error: Exception, headers: dict[str, str]) -> ASGIApp:
        reply = wire.reply(error)
        exchange.status = reply.status
        is_full = isinstance(error, OverloadedError)
        self._end(exchange, Outcome.OVERLOADED if is_full else Outcome.of_status(reply.status))
        return WholeReply(reply.status, reply.body, {**headers, **reply.headers})

    def _end(self, exchange: ModelRequest, outcome: Outcome) -> None:
        self.metrics.count(exchange, outcome)
        self._log.write(exchange, outcome)
