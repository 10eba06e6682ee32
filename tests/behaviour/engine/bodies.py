"""Request bodies for the fuzz test: every field of vLLM's request models, with sensible and hostile values."""

import json
from typing import Any

from hypothesis import strategies as st

from gateway.engine.requests import kinds
from gateway.engine.requests.kinds import Kind
from tests.gateway.engines import MODEL_NAME

PATHS = {
    kinds.CHAT: "/v1/chat/completions",
    kinds.COMPLETION: "/v1/completions",
    kinds.RESPONSES: "/v1/responses",
    kinds.MESSAGES: "/v1/messages",
    kinds.COUNT_TOKENS: "/v1/messages/count_tokens",
    kinds.TOKENIZE: "/tokenize",
    kinds.DETOKENIZE: "/detokenize",
}

SCHEMA = {
    "type": "object",
    "properties": {"on": {"type": "boolean"}, "room": {"enum": ["kitchen", "hall"]}},
    "required": ["on", "room"],
    "additionalProperties": False,
}
SCHEMAS: list[Any] = [
    SCHEMA,
    {},
    True,
    False,
    {"$ref": "#"},
    {"$ref": "#/$defs/nothing"},
    {"type": "nonsense"},
    {"type": ["object", "null"]},
    {"enum": []},
    {"allOf": [{"type": "string"}, {"type": "integer"}]},
    {"type": "string", "pattern": "("},
    {"type": "string", "pattern": "a{1,100000}"},
    {"type": "string", "minLength": 9, "maxLength": 3},
    {"type": "array", "items": {"$ref": "#"}, "minItems": 10**9},
    {"type": "integer", "minimum": 5, "maximum": 4},
    {"type": "integer", "multipleOf": 0},
    {"properties": {"a": 5}},
    {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
    {"$defs": [], "type": "object"},
    {"type": "object", "properties": {f"p{i}": {"type": "string", "format": "email"} for i in range(40)}},
    "not a schema",
]
GRAMMARS: list[Any] = [
    {"json": schema} for schema in [*SCHEMAS, '{"type": "object"}', "{"]
] + [
    {"regex": regex} for regex in ("[ab]{1,8}", "(", "(?=a)b", r"[^\s\S]", "(a*)*b", "a{60000}", r"\p{L}", "", "\x00")
] + [
    {"choice": ["yes", "no"]}, {"choice": []}, {"choice": [""]}, {"choice": [1]}, {"choice": ["a"] * 300},
    {"choice": "yes"},
    {"grammar": 'root ::= "a" | "b"'}, {"grammar": ""}, {"grammar": "root ::= root"}, {"grammar": "root ::="},
    {"grammar": "start: /a/"}, {"grammar": "?start: (\"a\"|start)+"},
    {"json_object": True}, {"json_object": False}, {"structural_tag": "{}"}, {"structural_tag": "["},
    {"structural_tag": json.dumps({"structures": [], "triggers": []})},
    {"structural_tag": json.dumps({"type": "structural_tag", "format": {"type": "any_text"}})},
    {"regex": "a", "choice": ["a"]}, {"whitespace_pattern": "x"}, {"disable_any_whitespace": True, "json": SCHEMA},
    {},
]  # fmt: skip

FUNCTION = {"name": "light", "description": "Switches it", "parameters": SCHEMA}


def _functions() -> list[dict[str, Any]]:
    odd: list[dict[str, Any]] = [{"name": "light", "parameters": schema} for schema in SCHEMAS]
    odd += [{**FUNCTION, "strict": True}, {**FUNCTION, "name": ""}, {**FUNCTION, "name": '<tool_call>"\n'}, {}]
    return [FUNCTION, *odd]


NUMBERS = [0, 1, -1, 2, 0.5, 1.5, 1e-30, 1e30, 1e308, -0.0, 5, 16, 17, 65, 2**31, 2**32, 2**63, 2**64, -(2**63), 10**30]
TEXTS = ["", "Hello", "x" * 600, "\x00", "\ud800", "half \udc00", "\U0001f600", "<|im_end|>", "{{ 1/0 }}", "a b\n" * 50]
"""The tiny model's window is 512 tokens of one byte each."""
JUNK: list[Any] = [
    None,
    True,
    False,
    *NUMBERS,
    *TEXTS,
    [],
    {},
    [None],
    [[]],
    [{}],
    {"": None},
    ["a"] * 200,
    [0] * 300,
    [-1],
    [2**40],
    {"0": 1},
    {"-1": 1},
    {"999999": 100},
    {"type": "junk"},
    {"type": "object", "name": {}},
]
DEEP: Any = None
for _ in range(150):
    DEEP = [DEEP]
JUNK.append(DEEP)

IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
CONTENTS: list[Any] = [
    *TEXTS,
    None,
    5,
    [],
    [{}],
    [None],
    ["text"],
    [{"type": "text"}],
    [{"type": "text", "text": "Hello"}],
    [{"type": "text", "text": None}],
    [{"type": "input_text", "text": "Hello"}],
    [{"type": "refusal", "refusal": "No"}],
    [{"type": "thinking", "thinking": "Hm"}],
    [IMAGE],
    [{"type": "image_url"}],
    [{"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}],
    [{"type": "video_url", "video_url": {"url": "file:///etc/passwd"}}],
    [{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}],
    [{"type": "tool_use", "id": "1", "name": "light", "input": {}}],
    [{"type": "tool_result", "tool_use_id": "1", "content": "done"}],
    [{"type": "tool_result"}],
    [{"type": "nonsense"}],
    [{"text": "Hello"}],
]
CALL = {"id": "1", "type": "function", "function": {"name": "light", "arguments": '{"on": true}'}}
TOOL_CALLS: list[Any] = [
    [CALL],
    [],
    None,
    [{}],
    [{"function": None}],
    [{**CALL, "function": {"name": "light", "arguments": "{broken"}}],
    [{**CALL, "function": {"name": "light", "arguments": "[]"}}],
    [{**CALL, "function": {"name": None, "arguments": None}}],
    5,
]


def _messages() -> st.SearchStrategy[Any]:
    message = st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "user", "system", "assistant", "tool", "developer", "villain", "", 5])},
        optional={
            "content": st.sampled_from(CONTENTS),
            "tool_calls": st.sampled_from(TOOL_CALLS),
            "tool_call_id": st.sampled_from(["1", None, 5]),
            "name": st.sampled_from(["x", "", None, 5]),
            "reasoning": st.sampled_from(["Hm", None, 5]),
            "function_call": st.sampled_from([None, {}, {"name": "f", "arguments": "{}"}]),
        },
    )
    return st.lists(message, max_size=3)


ITEMS: list[Any] = [
    {"role": "user", "content": "Hello"},
    {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Hello"}]},
    {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hello"}]},
    {"type": "message", "role": "user", "content": [{"type": "input_image", "image_url": "data:,"}]},
    {"type": "function_call", "call_id": "1", "name": "light", "arguments": "{}"},
    {"type": "function_call", "call_id": "1", "name": "light", "arguments": "{"},
    {"type": "function_call_output", "call_id": "1", "output": "done"},
    {"type": "function_call_output", "call_id": "none", "output": [{"type": "input_text", "text": "x"}]},
    {"type": "reasoning", "summary": []},
    {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm"}]},
    {"type": "item_reference", "id": "x"},
    {"type": "mcp_list_tools", "id": "1", "server_label": "x", "tools": []},
    {"type": "custom_tool_call", "call_id": "1", "name": "x", "input": "y"},
    {"type": "web_search_call", "id": "1", "status": "completed", "action": {"type": "search", "query": "x"}},
    {"type": "compaction", "encrypted_content": "x"},
    {},
    5,
]

CHAT_TOOLS: list[Any] = [[{"type": "function", "function": function}] for function in _functions()]
FLAT_TOOLS: list[Any] = [[{"type": "function", **function}] for function in _functions()]
ANTHROPIC_TOOLS: list[Any] = [
    [{"name": function.get("name"), "input_schema": function.get("parameters")}] for function in _functions()
]
OTHER_TOOLS: list[Any] = [
    [{"type": "web_search_preview"}],
    [{"type": "code_interpreter", "container": {"type": "auto"}}],
    [{"type": "mcp", "server_label": "x", "server_url": "http://127.0.0.1:9"}],
    [{"type": "custom", "name": "x"}],
    [{"type": "namespace", "name": "n", "description": "d", "tools": [{"type": "function", "name": "x"}]}],
]

USUAL: dict[str, list[Any]] = {
    "max_tokens": [1, 4, 500, 512, 513],
    "max_completion_tokens": [1, 4, 512],
    "max_output_tokens": [1, 4, 512],
    "min_tokens": [1, 3, 600],
    "temperature": [0, 0.7, 2, 2.1],
    "top_p": [0.1, 1],
    "top_k": [1, 50, -1],
    "min_p": [0.1, 1],
    "n": [1, 2, 16],
    "best_of": [1, 2, 17],
    "seed": [0, 7, -5, 2**62],
    "stop": ["a", ["a", "b"], ["a"] * 5, [""], [1]],
    "stop_sequences": [["a"], ["a"] * 5, [""]],
    "stop_token_ids": [[65], [2**31], ["a"]],
    "logit_bias": [{"65": 100}, {"65": -100}, {"65": 1e9}, {"a": 1}, {str(i): -100 for i in range(259)}],
    "allowed_token_ids": [[65, 66], [0], list(range(400))],
    "bad_words": [["a"], [""], ["\x00"], ["a"] * 129],
    "logprobs": [True, 0, 5, 64],
    "top_logprobs": [0, 1, 64],
    "prompt_logprobs": [0, 1, 64, -1],
    "logprob_token_ids": [[65], list(range(70))],
    "response_format": [
        {"type": "text"},
        {"type": "json_object"},
        {"type": "json_schema"},
        {"type": "json_schema", "json_schema": None},
        *[{"type": "json_schema", "json_schema": {"name": "x", "schema": schema}} for schema in SCHEMAS],
        {"type": "structural_tag", "format": {"type": "any_text"}},
        {"type": "structural_tag", "structures": [], "triggers": ["<"]},
    ],
    "structured_outputs": GRAMMARS,
    "text": [{"format": {"type": "json_schema", "name": "x", "schema": schema}} for schema in SCHEMAS],
    "output_config": [{"format": {"type": "json_schema", "schema": schema}} for schema in SCHEMAS]
    + [{"effort": "low"}],
    "thinking": [{"type": "enabled", "budget_tokens": 1024}, {"type": "disabled"}, {"type": "adaptive"}],
    "reasoning": [{"effort": "low"}, {"effort": "none", "summary": "auto"}],
    "reasoning_effort": ["none", "low", "high", "max"],
    "thinking_token_budget": [0, 1, 100],
    "stream_options": [{"include_usage": True}, {"include_usage": True, "continuous_usage_stats": True}, {}],
    "chat_template": ["{{ messages }}"],
    "chat_template_kwargs": [{"enable_thinking": False}, {"messages": []}, {"chat_template": "x"}, {"tokenize": True}],
    "tool_choice": [
        "auto",
        "none",
        "required",
        {"type": "function", "function": {"name": "light"}},
        {"type": "function", "function": {"name": "other"}},
        {"type": "function", "name": "light"},
        {"type": "tool", "name": "light"},
        {"type": "any", "disable_parallel_tool_use": True},
        {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "light"}]},
    ],
    "include": [["message.output_text.logprobs"], ["reasoning.encrypted_content"], ["nonsense"]],
    "truncation": ["auto", "disabled"],
    "truncate_prompt_tokens": [1, 10, -1, 1000],
    "documents": [[{"title": "a", "text": "b"}], [{}]],
    "prompt": [
        *TEXTS,
        [],
        ["a", "b"],
        [65, 66],
        [[65], [66]],
        ["a", 1],
        [[]],
        [300],
        [70] * 511,
        [70] * 512,
        ["a"] * 20,
    ],
    "suffix": ["x"],
    "tokens": [[], [65, 66], [300], [2**62], [70] * 2000],
    "echo": [True],
    "use_beam_search": [True],
    "repetition_penalty": [0.5, 2, 1e-30],
    "repetition_detection": [{"max_pattern_size": 2, "min_pattern_size": 1, "min_count": 2}, {}],
    "priority": [0, 1, -1],
    "cache_salt": ["salt", ""],
    "kv_transfer_params": [{"do_remote_decode": True}, {"do_remote_prefill": True, "remote_engine_id": "x"}],
    "ec_transfer_params": [{"a": 1}],
    "vllm_xargs": [{"a": 1}, {"a": [1, "b"]}],
    "data_parallel_rank": [0, 1],
    "request_id": ["mine", "", "x" * 300],
    "previous_response_id": ["resp_1"],
    "background": [True],
    "store": [True, False],
    "metadata": [{"a": "b"}, {"user_id": "x"}],
    "mm_processor_kwargs": [{"a": 1}],
    "media_io_kwargs": [{"image": {"a": 1}}],
    "prompt_embeds": ["AAAA", ["AAAA"]],
    "add_generation_prompt": [True, False],
    "continue_final_message": [True],
    "system": ["Be kind", [{"type": "text", "text": "Be kind"}]],
    "instructions": ["Be kind", "x" * 600],
    "previous_input_messages": [[{"role": "user", "content": "Hello"}]],
    "input": [*TEXTS, [], *[[item] for item in ITEMS], ITEMS],
    "model": [MODEL_NAME, "nothing", "a/b/c/d/e", "x" * 5000],
    "stream": [True, True, True, False],
}
"""Field -> sensible values; other fields get only JUNK."""

SMALLEST: dict[Kind, dict[str, Any]] = {
    kinds.CHAT: {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4},
    kinds.COMPLETION: {"prompt": "Hi", "max_tokens": 4},
    kinds.RESPONSES: {"input": "Hi", "max_output_tokens": 4},
    kinds.MESSAGES: {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4},
    kinds.COUNT_TOKENS: {"messages": [{"role": "user", "content": "Hi"}]},
    kinds.TOKENIZE: {"prompt": "Hi"},
    kinds.DETOKENIZE: {"tokens": [65]},
}


def fields_of(kind: Kind) -> list[str]:
    """The fields that vLLM knows; both those of a text and of a chat if the request may be either."""
    forms = [kinds.form(kind, SMALLEST[kind])]
    if kind is kinds.TOKENIZE:
        forms.append(kinds.form(kind, {"messages": []}))
    return sorted({name for form in forms for name in form.model_fields})


def bodies(kind: Kind) -> st.SearchStrategy[bytes]:
    """Valid bodies with one to four fields changed, perhaps to valid values."""
    values = {name: _values(kind, name) for name in fields_of(kind)}
    changes = st.lists(st.sampled_from(sorted(values)), min_size=1, max_size=4, unique=True).flatmap(
        lambda names: st.fixed_dictionaries({name: values[name] for name in names})
    )
    return changes.map(lambda changed: json.dumps({"model": MODEL_NAME, **SMALLEST[kind], **changed}).encode())


def _values(kind: Kind, name: str) -> st.SearchStrategy[Any]:
    junk = st.sampled_from(JUNK)
    if name == "messages":
        return st.one_of(_messages(), _messages(), junk)
    usual = list(USUAL.get(name, []))
    if name == "prompt":
        usual += [[70] * 511, [70] * 512]
    if name == "tools":
        tools = {kinds.RESPONSES: FLAT_TOOLS + OTHER_TOOLS}.get(kind, CHAT_TOOLS)
        usual = ANTHROPIC_TOOLS if kind.shape == "anthropic" else tools
    return st.one_of(st.sampled_from(usual), st.sampled_from(usual), junk) if usual else junk
