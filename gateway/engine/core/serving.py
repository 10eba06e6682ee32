"""vLLM's OpenAI handlers and its metrics, without its web framework. Imports vLLM when called."""

import sys
from typing import Any

from gateway.engine.core.process import EngineProcess
from gateway.engine.patches import chat_chunks, cut_answers, message_streams, prefill


async def serving_state(process: EngineProcess) -> Any:
    """vLLM's state object, which holds its handlers (`openai_serving_chat` and so on) with our patches in them."""
    from starlette.datastructures import State
    from vllm import envs
    from vllm.entrypoints.launchers.api_server.app_state import init_app_state

    from gateway.engine.patches import forced_tools, message_usage

    forced_tools.install(process.arguments.tool_call_parser)
    state = State()
    await init_app_state(process.llm, state, process.arguments, await process.llm.get_supported_tasks())
    chat_chunks.install(state.openai_serving_chat)
    cut_answers.install(state.openai_serving_chat, state.anthropic_serving_messages, state.openai_serving_responses)
    prefill.install(state.anthropic_serving_messages)
    message_streams.install(state.anthropic_serving_messages)
    message_usage.install()
    # Otherwise vLLM reads the environment for every request and result: 4 % of the front end's time.
    envs.enable_envs_cache()
    return state


def metrics() -> bytes:
    """vLLM's metrics in Prometheus' text format; empty before the first start, since importing them takes seconds."""
    if "vllm.v1.metrics.prometheus" not in sys.modules:
        return b""
    from prometheus_client import generate_latest
    from vllm.v1.metrics.prometheus import get_prometheus_registry

    return generate_latest(get_prometheus_registry())
