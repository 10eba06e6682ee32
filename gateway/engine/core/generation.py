"""What the baker asks of the running model: token ids of chats, samples, log-probabilities, and answers for the canary.

Implements `baker.ports.Sampler`. vLLM is imported by the first call, since importing it takes ten seconds.
"""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from baker.errors import EngineError, InvalidInputError
from baker.ports import OnText
from baker.types import Checkpoint, Distribution, Message, ParsedAnswer, Sample, SampleRequest, StopReason
from gateway.engine.adapters.loader import lora_request
from gateway.engine.adapters.slots import BASE, Lease
from gateway.engine.core import canary
from gateway.engine.core.settings import EngineSettings
from gateway.engine.core.tools import parser_for

if TYPE_CHECKING:
    from vllm import RequestOutput, SamplingParams
    from vllm.v1.engine.async_llm import AsyncLLM

MAX_CHARACTERS_PER_TOKEN = 256
"""A chat with more characters for each token of the context window is refused before it is rendered. vLLM renders all
chats in one thread: while it rendered 100 MB, the chats of other jobs timed out."""
PROBE_TOOL = {
    "type": "function",
    "function": {"name": "zyzzyva", "description": "", "parameters": {"type": "object", "properties": {}}},
}


class GeneratingEngine(Protocol):
    """What generation needs of the engine; see `engine.Engine`."""

    @property
    def settings(self) -> EngineSettings: ...

    @property
    def max_model_len(self) -> int: ...

    @property
    def serving(self) -> Any: ...

    def running(self) -> "AsyncLLM": ...

    def register(self, name: str, path: Path) -> None: ...

    async def lease(self, name: str | None) -> Lease: ...


class Generation:
    """One engine's base model and adapters, asked directly instead of over HTTP."""

    def __init__(self, engine: GeneratingEngine) -> None:
        self._engine = engine
        self._renders_tools = False
        self._request_ids = itertools.count(1)

    @property
    def renders_tools(self) -> bool:
        """Whether the chat template shows tools to the model; some templates drop them silently."""
        return self._renders_tools

    async def detect_tool_rendering(self) -> None:
        """Set `renders_tools` for the model that runs now."""
        chat: list[Message] = [{"role": "user", "content": "Hello"}]
        try:
            self._renders_tools = await self.tokenise(chat) != await self.tokenise(chat, [PROBE_TOOL])
        except InvalidInputError:  # no chat template at all, or one that refuses this tool
            self._renders_tools = False

    async def tokenise(self, messages: Sequence[Message], tools: list[dict[str, Any]] | None = None) -> list[int]:
        """The token ids of a chat, including the header of the assistant's turn, from the renderer that serving uses.

        Raises: InvalidInputError if the messages can't fit the window or the chat template refuses them; EngineError.
        """
        length, window = sum(len(str(message.get("content"))) for message in messages), self._engine.max_model_len
        if length > MAX_CHARACTERS_PER_TOKEN * window:
            raise InvalidInputError(f"the messages have {length} characters, too many for a window of {window} tokens")
        from vllm.entrypoints.serve.engine.protocol import ErrorResponse
        from vllm.entrypoints.serve.tokenize.protocol import TokenizeChatRequest

        from gateway.engine.core.sampling import complaint

        handler = self._engine.serving.serving_tokenization
        fields = {"messages": list(messages), "tools": tools or None, "add_generation_prompt": True}
        try:
            request = TokenizeChatRequest.model_validate(fields)
            reply = await handler.create_tokenize(request, None)
        except Exception as error:  # templates raise anything: jinja errors, TypeError, KeyError
            raise InvalidInputError(f"the chat template refuses the messages: {complaint(error, fields)[1]}") from error
        if isinstance(reply, ErrorResponse):
            raise InvalidInputError(f"the chat template refuses the messages: {reply.error.message}")
        return list(reply.tokens)

    async def sample(self, request: SampleRequest, on_text: OnText | None = None) -> Sample:
        """Continue `request.context_ids`; loads the adapter if needed. Cancelling this ends the work in the engine.

        Args: on_text: hears the text so far whenever the engine has written more of it.
        Raises: InvalidInputError if the context does not fit the window or a setting is refused; AdapterError;
        EngineError.
        """
        llm = self._engine.running()
        from gateway.engine.core import sampling

        params = sampling.sampling_params(
            request,
            window=self._engine.max_model_len,
            max_logprobs=self._engine.settings.max_logprobs,
            defaults=self._engine.serving.openai_serving_chat.default_sampling_params,
            streams=on_text is not None,
        )
        if request.adapter is not None:
            self._engine.register(request.adapter.name, request.adapter.path)
        with await self._engine.lease(request.adapter.name if request.adapter else None) as lease:
            output = await self._generate(request.context_ids, params, lease, on_text)
        if params.structured_outputs is not None and output.outputs[0].finish_reason == "error":
            raise InvalidInputError("the engine could not compile the grammar, or no text fits it: simplify it")
        # Not the streamed text: it lacks a character that the last tokens only begin.
        text = None if params.stop else _text(llm, output)
        return sampling.sample_of(output, request.top_logprobs, text)

    async def score(
        self, context_ids: Sequence[int], response_ids: Sequence[int], adapter: str | None = None
    ) -> list[float]:
        """Log-probability (nats) of each response token after the context, by the base model or a registered adapter.

        Raises: InvalidInputError if they don't fit the window; NotFoundError; AdapterError; EngineError.
        """
        from gateway.engine.core import sampling

        output = await self._read(context_ids, response_ids, 0, adapter)
        return sampling.prompt_scores(output, len(context_ids))

    async def distribution(
        self, context_ids: Sequence[int], response_ids: Sequence[int], top_logprobs: int, adapter: Checkpoint | None
    ) -> Distribution:
        """What the base model or an adapter would have expected at each position of the response; loads the adapter
        if needed.

        Raises: InvalidInputError if they don't fit the window; AdapterError; EngineError.
        """
        from gateway.engine.core import sampling

        if adapter is not None:
            self._engine.register(adapter.name, adapter.path)
        output = await self._read(context_ids, response_ids, top_logprobs, None if adapter is None else adapter.name)
        return sampling.prompt_distribution(output, len(context_ids), top_logprobs)

    async def logprobs(
        self, context_ids: Sequence[int], response_ids: Sequence[int], adapter: Checkpoint | None
    ) -> list[float]:
        """See `score`; loads the adapter if needed."""
        if adapter is not None:
            self._engine.register(adapter.name, adapter.path)
        return await self.score(context_ids, response_ids, None if adapter is None else adapter.name)

    def encode(self, text: str) -> list[int]:
        """Token ids of a text as part of an answer: nothing is added. Raises: EngineError."""
        return list(self._engine.running().get_tokenizer().encode(text, add_special_tokens=False))

    def token_texts(self, ids: Sequence[int]) -> list[str]:
        """See `baker.ports.Sampler`. Special tokens are shown. Raises: EngineError."""
        decode = self._engine.running().get_tokenizer().decode
        texts: list[str] = []
        start = shown = 0
        for end in range(1, len(ids) + 1):
            # Decoded together with the tokens before it, since some tokenizers drop the space before a first token.
            before, text = decode(ids[start:shown]), decode(ids[start:end])
            is_whole = not text.endswith("\ufffd") or end == len(ids)
            texts.append(text[len(before) :] if is_whole else "")
            if is_whole:
                start, shown = shown, end
        return texts

    def read_answer(self, sample: Sample, tools: list[dict[str, Any]] | None) -> ParsedAnswer:
        """The answer as serving would return it, with calls of `tools` separated from text."""
        if not tools:
            return ParsedAnswer(sample.text, [])
        from gateway.engine.core.tools import read_answer

        ids = sample.response_ids[:-1] if sample.stop_reason is StopReason.STOP else sample.response_ids
        settings = self._engine.settings
        parser = settings.tool_call_parser or parser_for(settings.model)
        return read_answer(parser, self._engine.running().get_tokenizer(), ids, tools)

    async def probe(self) -> None:
        """Have the base model generate one token. Raises: EngineError."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        params = SamplingParams(max_tokens=1, output_kind=RequestOutputKind.FINAL_ONLY)
        await self._generate([0], params, BASE)

    async def canary_answer(self, adapter: str | None) -> canary.Answer:
        """How the base model (None) or a registered adapter reads and continues the canary's text.

        Raises: NotFoundError; AdapterError; EngineError.
        """
        from gateway.engine.core import sampling

        ids = self._engine.running().get_tokenizer().encode(canary.TEXT, add_special_tokens=False)
        with await self._engine.lease(adapter) as lease:
            output = await self._generate(ids[: self._engine.max_model_len // 2], sampling.canary_params(), lease)
        return sampling.canary_answer(output)

    async def _read(
        self, context_ids: Sequence[int], response_ids: Sequence[int], top_logprobs: int, adapter: str | None
    ) -> "RequestOutput":
        """Run context and response through the model as one prompt. vLLM uses no cached prefix for such a request."""
        from gateway.engine.core import sampling

        ids = [*context_ids, *response_ids]
        if not context_ids or len(ids) >= self._engine.max_model_len:
            raise InvalidInputError(
                f"{len(context_ids)} + {len(response_ids)} tokens can't be scored: the context needs at least one, "
                f"and both together fewer than the window's {self._engine.max_model_len}"
            )
        with await self._engine.lease(adapter) as lease:
            return await self._generate(ids, sampling.scoring_params(top_logprobs), lease)

    async def _generate(
        self, ids: Sequence[int], params: "SamplingParams", lease: Lease, on_text: OnText | None = None
    ) -> "RequestOutput":
        from vllm.exceptions import VLLMClientError, VLLMError
        from vllm.inputs import tokens_input

        from gateway.engine.core.sampling import refusal

        final: RequestOutput | None = None
        adapter = lease.adapter
        outputs = self._engine.running().generate(
            tokens_input(list(ids)),
            params,
            f"bread-{next(self._request_ids)}",
            lora_request=None if adapter is None else lora_request(adapter.name, adapter.number, adapter.path),
        )
        try:
            async for output in outputs:
                final = output
                if on_text is not None:
                    on_text(output.outputs[0].text)
        except VLLMClientError as error:
            raise refusal(error) from error
        except VLLMError as error:
            raise EngineError(f"the engine failed: {error}") from error
        assert final is not None
        return final


def _text(llm: "AsyncLLM", output: "RequestOutput") -> str:
    return str(llm.get_tokenizer().decode(output.outputs[0].token_ids, skip_special_tokens=True))
