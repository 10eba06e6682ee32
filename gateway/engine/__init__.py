"""The engine: vLLM behind our own verbs. Nothing outside this package imports vllm, and importing it does not either:
starting the engine does.

core/                the engine that serves
    engine.py          Engine: start, stop, sleep, wake; its adapters
    generation.py      what the baker asks of it: tokenise, sample, score, distribution
    supervisor.py      keeps one alive
    process.py         its processes: built, ended, killed
    serving.py         vLLM's HTTP handlers and metrics, without its web framework
    settings.py        the operator's settings; vLLM's environment and arguments
    sampling.py        our values <-> vLLM's
    tools.py           parsers of tool calls and reasoning
    mistakes.py        what is wrong with a refused body, by place
    canary.py          checks that a new engine answers as the one before
    sleep.py           its memory, freed for a training
    lending.py         its weights, lent to a training
    usage.py           token counts of a request
requests/            request bodies through vLLM's own serving code
    kinds.py           the kinds of requests, and how vLLM answers each
    body.py            bytes -> fields
    checks.py          fields that vLLM would not refuse well
    conversation.py    the same for messages and their parts
    handlers.py        fields -> answer
    stream.py          an answer as server-sent events
    refusals.py        vLLM's errors -> ours
    tokenizer.py       special tokens and chat template
adapters/            LoRA adapters in the engine
    slots.py           which are in it, which are in use, which requests wait
    loader.py          loads and removes them
patches/             vLLM corrected in our process
    chat_chunks.py     faster chunks of plain streamed chats
    forced_tools.py    tool calls that fit their schema
    cut_answers.py     an answer that ends within a tool call says so
    prefill.py         Anthropic's messages continue the assistant's words
    message_usage.py   Anthropic's count of input tokens
    message_streams.py errors within Anthropic streams
    aborts.py          an answer that the engine gave up is a 503
    json_whitespace.py forced JSON has little whitespace
    step_stats.py      counts steps; metrics that do not grow
    turns.py           other tasks run between two results
    death.py           a dead engine is a 503
worker/              vLLM corrected in its worker process
    extension.py       the module that the worker imports: installs all of the following
    cpu_lora.py        LoRA kernels for CPUs
    cpu_logprobs.py    log-probabilities on CPUs
    cpu_norms.py       RMS norms on CPUs
    cpu_features.py    instructions of this CPU
    executor.py        on CPUs, the worker runs in the engine core's process
    grammars.py        grammars are compiled beside the engine's work
    grammar_backends.py  each by the backend that its request was checked for
    lending.py         handles of its weights
    logits.py          log-probabilities of prompts beside adapters
    owner.py           no engine outlives its server
    strength.py        adapters scaled as they are loaded
    weights.py         refuses adapters with NaN or infinity
"""

from gateway.engine.core.engine import Engine
from gateway.engine.core.settings import EngineSettings
from gateway.engine.requests.handlers import Handlers
from gateway.engine.requests.stream import StreamReply
from gateway.protocol.replies import Reply

__all__ = ["Engine", "EngineSettings", "Handlers", "Reply", "StreamReply"]
