"""The engine: vLLM behind our own verbs. Nothing outside this package imports vllm.

    settings.py    what the operator decides; environment and arguments
    llm.py         Engine: start, stop, tokenise, sample, score, load and unload adapters
    adapters.py    which adapters are in the engine, who uses them, who waits for a place
    loader.py      what brings them in and out
    sampling.py    our values <-> vLLM's
    process.py     its processes: built, ended, killed
    canary.py      does a new one answer as the one before
    sleep.py       its memory given to a training, and taken back
    surface.py     the kinds of requests that vLLM serves, and how each is asked and answered
    request_body.py  bytes -> fields
    handlers.py    request bodies through vLLM's own serving code
    plain_chat.py  the chunks of plain streamed chats, without vLLM's objects
    checks.py      bodies that vLLM would not refuse well
    tools.py       tool calls and reasoning: whose parser, and what it reads
    forced_tools.py  calls that fit their schema
    executor.py    on CPUs, the worker within the engine core's process
    worker.py      what vLLM's worker loads of ours:
    cpu_worker.py    LoRA kernels for CPUs
    lending.py       its weights for a training on the same GPU
    weights.py       no NaN enters the engine
    strength.py      adapters that are scaled as they are loaded
    logits.py        log-probabilities of prompts beside adapters
    grammars.py      grammars are compiled beside its work
    owner.py         no engine outlives its server

Importing the package does not import vllm; starting the engine does.
"""

from gateway.engine.core.engine import Engine
from gateway.engine.core.settings import EngineSettings
from gateway.engine.core.sleep import ASLEEP
from gateway.engine.requests.handlers import Handlers
from gateway.engine.requests.stream import StreamReply
from gateway.errors import CanaryError
from gateway.protocol.replies import Reply

__all__ = ["ASLEEP", "CanaryError", "Engine", "EngineSettings", "Handlers", "Reply", "StreamReply"]
