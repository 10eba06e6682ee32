"""One thread for a thing that blocks: the store and its rules, kept off the event loop."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Concatenate, Generic, ParamSpec, TypeVar

Thing = TypeVar("Thing")
Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


class OneThread(Generic[Thing]):
    """Calls a blocking object's methods one after the other, on one thread of its own.

    `await catalog(prompts.get, user, repo, name)` is `prompts.get(catalog, user, repo, name)` on that thread. A caller
    that is cancelled stops waiting; the call itself is finished, so no transaction is cut in the middle.
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
        call = partial(method, self._thing, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    def close(self, method: Callable[[Thing], None]) -> None:
        """Call `method` last of all and end the thread. Blocks until what was asked before is done."""
        self._thread.submit(method, self._thing).result()
        self._thread.shutdown()
