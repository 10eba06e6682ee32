"""How many tokens a request has read and written, as vLLM counts them."""

from typing import Any


class Usage:
    """Takes the place of the HTTP request's state that vLLM's handlers expect, and in which they leave their counts."""

    def __init__(self) -> None:
        self.request_metadata: Any = None
        """vLLM's RequestResponseMetadata: the engine's id of the request, and its usage once it has ended."""
        self._counted: tuple[int, int] | None = None
        self._is_finished = False

    @property
    def request_id(self) -> str | None:
        """The engine's id of the request; None until it has one."""
        return None if self.request_metadata is None else str(self.request_metadata.request_id)

    @property
    def is_final(self) -> bool:
        """Whether the answer is complete."""
        return self._is_finished or self._final is not None

    @property
    def tokens(self) -> tuple[int, int] | None:
        """Number of tokens read and written; None if they were not counted."""
        final = self._final
        return self._counted if final is None else (final.prompt_tokens, final.completion_tokens or 0)

    @property
    def _final(self) -> Any:
        return None if self.request_metadata is None else self.request_metadata.final_usage_info

    def note(self, counted: tuple[int, int] | None) -> None:
        """Keep the count so far of an answer that will not be completed."""
        self._counted = counted or self._counted

    def finish(self, read: int, written: int) -> None:
        """Keep the final count of an answer, for those of vLLM's handlers that leave none in the state."""
        self._counted, self._is_finished = (read, written), True


def tokens_so_far(output_processor: Any, request_id: str) -> tuple[int, int] | None:
    """Number of tokens that a running request has read and written; None if no such request runs.

    Args:
        output_processor: vLLM's OutputProcessor, in the engine's front end.
        request_id: as vLLM's handlers name the request; a completion of several prompts appends `-` and their numbers.
    """
    external: dict[str, list[str]] = output_processor.external_req_ids
    names = [request_id] if request_id in external else [name for name in external if name.startswith(f"{request_id}-")]
    states = [output_processor.request_states.get(internal) for name in names for internal in external.get(name, ())]
    running = [state for state in states if state is not None]
    if not running:
        return None
    # The answers to one prompt (`n`) share it.
    prompts = {state.external_req_id: state.prompt_len for state in running}
    written = sum(state.detokenizer.num_output_tokens() for state in running if state.detokenizer is not None)
    return sum(prompts.values()), written
