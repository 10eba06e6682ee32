"""Each grammar is compiled by the backend that its request was checked for. Installed in vLLM's engine core.

vLLM 0.32 chooses a backend for each request (xgrammar, or guidance for schemas that xgrammar can't enforce), but
compiles all grammars with the backend of the engine's first one. After a first schema with `multipleOf`, no tool call
could be forced; after any other first schema, `multipleOf` was ignored. Remove this when
`v1/structured_output/__init__.py` keeps a backend for each name.
"""

import copy
from collections.abc import Callable
from functools import partial
from typing import Any


def compile_with_chosen_backend() -> None:
    """Call once, before vLLM builds its engine."""
    from vllm.v1.structured_output import StructuredOutputManager

    begin, compile_grammar = StructuredOutputManager.grammar_init, StructuredOutputManager._create_grammar

    def grammar_init(self: Any, request: Any) -> None:
        structured = request.structured_output_request
        if structured is None:
            return
        backends: dict[str, Any] = vars(self).setdefault("_backends", {})
        self.backend = backends.get(structured.params._backend)  # None: vLLM makes it
        begin(self, request)
        backends[structured.params._backend] = self.backend

    def create_grammar(self: Any) -> Callable[[Any], Any]:
        """Compiles with the present backend; `self.backend` may be another by the time a thread runs this."""
        return partial(compile_grammar, copy.copy(self))

    StructuredOutputManager.grammar_init = grammar_init
    StructuredOutputManager._create_grammar = property(create_grammar)
