"""Models that write questions. This is the only file that imports anthropic."""

from typing import NamedTuple, Protocol

import anthropic

from baker.errors import InvalidInputError, StimError
from baker.ports import OnText, Sampler
from baker.types import Checkpoint, SampleRequest, StopReason

ANTHROPIC_MAX_TEMPERATURE = 1.0
"""Also Anthropic's default. Only lower temperatures are sent, since some models refuse the setting."""
SERVED_TOP_P = 0.8
"""Small models need it: sampling from the whole vocabulary, SmolLM2-135M wrote 3 usable lines in four calls."""


class Answer(NamedTuple):
    text: str
    is_cut: bool
    """True if the answer reached max_tokens, so its last line is incomplete."""


class Writer(Protocol):
    """A model that writes questions."""

    @property
    def name(self) -> str: ...

    @property
    def questions_per_call(self) -> int:
        """Most questions to ask for in one call."""
        ...

    @property
    def calls_per_need(self) -> int:
        """Factor on the number of concurrent calls, to make up for lines that are not new questions."""
        ...

    async def ask(
        self, text: str, on_text: OnText | None = None, *, temperature: float, max_tokens: int, seed: int | None
    ) -> Answer:
        """The model's answer to `text`. Raises: StimError with the error of the model's server; EngineError."""
        ...


class ServedWriter:
    """A model that this service serves."""

    # Small models lose the thread in long lists; for large ones, more calls cost little.
    questions_per_call = 10
    # Small models repeat themselves and digress, and concurrent calls take little longer than one.
    calls_per_need = 2

    def __init__(self, sampler: Sampler, name: str, checkpoint: Checkpoint | None) -> None:
        self.name = name
        self._sampler = sampler
        self._checkpoint = checkpoint

    async def ask(
        self, text: str, on_text: OnText | None = None, *, temperature: float, max_tokens: int, seed: int | None
    ) -> Answer:
        try:
            sample = await self._sampler.sample(
                SampleRequest(
                    context_ids=await self._sampler.tokenise([{"role": "user", "content": text}]),
                    adapter=self._checkpoint,
                    max_tokens=max_tokens,
                    temperature=temperature,
                    seed=seed,
                    extra={"top_p": SERVED_TOP_P},
                ),
                on_text,
            )
        except InvalidInputError as error:
            raise StimError(f"model {self.name!r} refused the request for questions: {error}") from error
        return Answer(sample.text, sample.stop_reason is StopReason.LENGTH)


class AnthropicWriter:
    """A model of Anthropic, or of another server with its Messages API. That API has no seeds."""

    questions_per_call = 50
    calls_per_need = 1

    def __init__(self, model: str, api_key: str, base_url: str | None) -> None:
        self.name = model
        self._client = anthropic.AsyncAnthropic(api_key=api_key, base_url=base_url, max_retries=4)

    async def ask(
        self, text: str, on_text: OnText | None = None, *, temperature: float, max_tokens: int, seed: int | None
    ) -> Answer:
        is_default = temperature >= ANTHROPIC_MAX_TEMPERATURE
        try:
            async with self._client.messages.stream(
                model=self.name,
                max_tokens=max_tokens,
                messages=[{"role": "user", "content": text}],
                extra_body=None if is_default else {"temperature": temperature},
            ) as stream:
                message = None
                async for event in stream:
                    if event.type == "text" and on_text is not None:
                        on_text(event.snapshot)
                    elif event.type == "message_stop":
                        message = event.message
        except anthropic.APIStatusError as error:
            raise StimError(
                f"Anthropic answered {error.status_code} for model {self.name!r}: {_reason(error)}"
            ) from error
        except anthropic.APIError as error:
            raise StimError(f"no answer from Anthropic for model {self.name!r}: {error.message}") from error
        if message is None:
            raise StimError(f"the answer for model {self.name!r} ended early, or its server does not stream answers")
        text = "".join(block.text for block in message.content if block.type == "text")
        return Answer(text, message.stop_reason == "max_tokens")


def _reason(error: anthropic.APIStatusError) -> str:
    """The message in the API's response."""
    body = error.body
    details = body.get("error") if isinstance(body, dict) else None
    return str(details["message"]) if isinstance(details, dict) and "message" in details else error.message
