"""Models that are asked to write questions. The only file that imports anthropic."""

from typing import NamedTuple, Protocol

import anthropic

from baker.errors import InvalidInputError, StimError
from baker.ports import Sampler
from baker.types import Checkpoint, SampleRequest, StopReason

ANTHROPIC_MAX_TEMPERATURE = 1.0
"""Also what it is when nothing is sent; models without the setting refuse it, so it is sent only if it is lower."""
SERVED_TOP_P = 0.8
"""Small models need it: from all of its vocabulary, SmolLM2-135M wrote word salad and 3 usable lines in four calls."""


class Answer(NamedTuple):
    text: str
    is_cut: bool
    """True if the answer ran into max_tokens, so its last line is not whole."""


class Writer(Protocol):
    """A model that writes questions."""

    @property
    def name(self) -> str: ...

    @property
    def questions_per_call(self) -> int: ...

    @property
    def calls_per_need(self) -> int:
        """How many times as many calls are made at once as would do if every line were a new question."""
        ...

    async def ask(self, text: str, *, temperature: float, max_tokens: int, seed: int | None) -> Answer:
        """Raises: StimError with what the model's server said; EngineError."""
        ...


class ServedWriter:
    """A model served here."""

    # A small model loses the thread in long lists; a large one loses little by being asked more often.
    questions_per_call = 10
    # It repeats itself and wanders off; and calls in one batch cost little more time than one.
    calls_per_need = 2

    def __init__(self, sampler: Sampler, name: str, checkpoint: Checkpoint | None) -> None:
        self.name = name
        self._sampler = sampler
        self._checkpoint = checkpoint

    async def ask(self, text: str, *, temperature: float, max_tokens: int, seed: int | None) -> Answer:
        try:
            sample = await self._sampler.sample(
                SampleRequest(
                    context_ids=await self._sampler.tokenise([{"role": "user", "content": text}]),
                    adapter=self._checkpoint,
                    max_tokens=max_tokens,
                    temperature=temperature,
                    seed=seed,
                    extra={"top_p": SERVED_TOP_P},
                )
            )
        except InvalidInputError as error:
            raise StimError(f"{self.name!r} could not be asked for questions: {error}") from error
        return Answer(sample.text, sample.stop_reason is StopReason.LENGTH)


class AnthropicWriter:
    """A model at Anthropic, or at a server that speaks its messages protocol, which has no seeds."""

    questions_per_call = 50
    calls_per_need = 1

    def __init__(self, model: str, api_key: str, base_url: str | None) -> None:
        self.name = model
        self._client = anthropic.AsyncAnthropic(api_key=api_key, base_url=base_url, max_retries=4)

    async def ask(self, text: str, *, temperature: float, max_tokens: int, seed: int | None) -> Answer:
        is_default = temperature >= ANTHROPIC_MAX_TEMPERATURE
        try:
            message = await self._client.messages.create(
                model=self.name,
                max_tokens=max_tokens,
                messages=[{"role": "user", "content": text}],
                extra_body=None if is_default else {"temperature": temperature},
            )
        except anthropic.APIStatusError as error:
            raise StimError(
                f"Anthropic answered {error.status_code} for model {self.name!r}: {_said(error)}"
            ) from error
        except anthropic.APIError as error:
            raise StimError(f"Anthropic could not be asked for questions: {error.message}") from error
        written = "".join(block.text for block in message.content if block.type == "text")
        return Answer(written, message.stop_reason == "max_tokens")


def _said(error: anthropic.APIStatusError) -> str:
    """The API's own words."""
    body = error.body
    reason = body.get("error") if isinstance(body, dict) else None
    return str(reason["message"]) if isinstance(reason, dict) and "message" in reason else error.message
