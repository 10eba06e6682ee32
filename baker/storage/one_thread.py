"""Runs a blocking object on its own thread, so that it never blocks the event loop. Used for the catalog."""

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Concatenate, Generic, ParamSpec, TypeVar

Thing = TypeVar("Thing")
Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


class OneThread(Generic[Thing]):
    """Calls functions of a blocking object one after the other, on one thread.

    `await catalog(prompts.get, user, repo, name)` is `prompts.get(catalog, user, repo, name)` on that thread. If
    the caller is cancelled, it stops waiting, but the call is completed: no transaction is cut in the middle. The call
    sees the caller's context variables.
    """

    def __init__(self, make: Callable[[], Thing], name: str) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._thing = self._thread.submit(make).result()

    async def __call__(
        self,
        method: Callable[Concatenate[Thing, Parameters], Result],
        *args: Parameters.args,
        **kwargs: Parameters.kwargs,
    ) -> Result:
        call = partial(contextvars.copy_context().run, partial(method, self._thing, *args, **kwargs))
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    def close(self, method: Callable[[Thing], None]) -> None:
        """Call `method` as the last one and end the thread. Blocks until all earlier calls are done."""
        self._thread.submit(method, self._thing).result()
        self._thread.shutdown()
