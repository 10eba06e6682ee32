"""The engine: vLLM behind our own verbs. Nothing outside this package imports vllm.

    settings.py    what the operator decides; environment and arguments
    llm.py         Engine: start, stop, tokenise, sample, score, load and unload adapters
    adapters.py    which adapters are loaded, and who uses them
    sampling.py    our values <-> vLLM's
    handlers.py    OpenAI bodies through vLLM's own serving code
    worker.py      what vLLM's worker process loads of ours:
    cpu_worker.py    LoRA kernels for CPUs
    weights.py       no NaN enters the engine
    owner.py         no engine outlives its server

Importing the package does not import vllm; starting the engine does.
"""

from gateway.engine.handlers import Handlers, Reply, StreamReply
from gateway.engine.llm import Engine
from gateway.engine.settings import EngineSettings

__all__ = ["Engine", "EngineSettings", "Handlers", "Reply", "StreamReply"]
