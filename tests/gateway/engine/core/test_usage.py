"""Token counts of requests that run and of requests that have ended."""

from types import SimpleNamespace

from gateway.engine.core.usage import Usage, tokens_so_far


def test_the_final_count_of_a_handler_wins_over_counts_on_the_way() -> None:
    usage = Usage()
    assert usage.tokens is None and usage.request_id is None and not usage.is_final
    usage.request_metadata = SimpleNamespace(request_id="chatcmpl-1", final_usage_info=None)
    usage.note((3, 1))
    usage.note(None)
    assert (usage.request_id, usage.tokens, usage.is_final) == ("chatcmpl-1", (3, 1), False)
    usage.request_metadata.final_usage_info = SimpleNamespace(prompt_tokens=3, completion_tokens=None)
    assert (usage.tokens, usage.is_final) == ((3, 0), True)


def test_a_count_can_be_final_without_a_handlers() -> None:
    usage = Usage()
    usage.finish(4, 2)
    assert (usage.tokens, usage.is_final) == ((4, 2), True)


def state(request: str, prompt: int, written: int | None) -> SimpleNamespace:
    counter = None if written is None else SimpleNamespace(num_output_tokens=lambda: written)
    return SimpleNamespace(external_req_id=request, prompt_len=prompt, detokenizer=counter)


def test_answers_to_one_prompt_share_it_and_prompts_of_one_completion_add_up() -> None:
    processor = SimpleNamespace(
        external_req_ids={"chat": ["a", "b"], "cmpl-0": ["c"], "cmpl-1": ["d"], "other": ["e"], "ended": ["f"]},
        request_states={
            "a": state("chat", 10, 1),
            "b": state("chat", 10, 2),
            "c": state("cmpl-0", 5, 4),
            "d": state("cmpl-1", 6, None),
            "e": state("other", 100, 100),
        },
    )
    assert tokens_so_far(processor, "chat") == (10, 3)
    assert tokens_so_far(processor, "cmpl") == (11, 4)
    assert tokens_so_far(processor, "ended") is None
    assert tokens_so_far(processor, "cmp") is None
