"""An answer that is being generated, as server-sent events."""

from collections import deque
from collections.abc import AsyncGenerator
from typing import Any

from gateway.engine.adapters.slots import Lease


class StreamReply(AsyncGenerator[bytes, None]):
    """Server-sent events, each a full `data: ...` line and an empty one, `[DONE]` at the end.

    Iterate it once. The work in the engine ends and the adapter is released when the iteration ends or is cancelled,
    and on `aclose`, which the sender should await in any case.
    """

    status = 200

    def __init__(
        self, first: list[str], rest: AsyncGenerator[str, None], source: AsyncGenerator[str, None], lease: Lease
    ) -> None:
        self._first = deque(first)
        self._rest = rest
        self._source = source  # closing `rest` does not close it if the iteration of `rest` never began
        self._lease = lease

    async def asend(self, value: None) -> bytes:
        if self._first:
            return self._first.popleft().encode()
        try:
            return (await anext(self._rest)).encode()
        except BaseException:
            await self.aclose()
            raise

    async def athrow(self, *error: Any) -> bytes:
        await self.aclose()
        return await super().athrow(*error)

    async def aclose(self) -> None:
        """End the request in the engine if it still runs."""
        self._first.clear()
        try:
            await self._rest.aclose()
            await self._source.aclose()
        finally:
            self._lease.release()

    def __del__(self) -> None:
        self._lease.release()  # the event loop closes a dropped generator
