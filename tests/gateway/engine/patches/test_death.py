"""A dead engine is a 503 to every request. With a real engine that is killed: core/test_engine.py."""

from types import SimpleNamespace
from typing import Any

import pytest

from gateway.engine import Engine
from gateway.engine.patches.death import GONE, explain_death, gone_error


def test_vllm_treats_it_as_a_dead_engines_and_answers_503(engine: Engine) -> None:
    from vllm.entrypoints.serve.exception_handling.error_response import create_error_response
    from vllm.v1.engine.exceptions import EngineDeadError

    assert isinstance(gone_error(), EngineDeadError)
    answer = create_error_response(gone_error()).error
    assert (answer.code, answer.message) == (503, GONE)
    assert create_error_response(EngineDeadError()).error.code == 500, "or else vLLM has fixed it"


def test_requests_get_an_error_each_once_the_engine_is_dead(engine: Engine) -> None:
    from vllm.v1.engine.exceptions import EngineDeadError

    received: list[Exception] = []
    states = {name: SimpleNamespace(queue=SimpleNamespace(put=received.append)) for name in "ab"}
    resources = SimpleNamespace(engine_dead=False)
    llm: Any = SimpleNamespace(
        engine_core=SimpleNamespace(resources=resources), output_processor=SimpleNamespace(request_states=states)
    )
    explain_death(llm)
    other = ValueError("not a death")
    llm.engine_core.ensure_alive()
    llm.output_processor.propagate_error(other)
    assert received == [other, other] and llm.engine_core._format_exception(other) is other
    resources.engine_dead = True
    received.clear()
    llm.output_processor.propagate_error(other)
    assert len(set(map(id, received))) == 2 and all(str(error) == GONE for error in received)
    assert isinstance(llm.engine_core._format_exception(other), EngineDeadError)
    with pytest.raises(EngineDeadError, match="died"):
        llm.engine_core.ensure_alive()
