"""The conversation and its client."""

from __future__ import annotations

import asyncio

import pytest

from chat_with_model import ChatClient, ChatError, Chunk, Conversation
from tests.chat.server import (
    KEY,
    MODELS,
    PATIENCE_SECONDS,
    Behaviour,
    Server,
    answers,
    breaks_after,
    contents,
    event,
    ignore,
    never_ends,
    refuses,
    sends,
)


def test_an_answer_is_streamed_piece_by_piece_and_measured(server: Server, conversation: Conversation) -> None:
    server.next = [answers("Tres", " Comas")]
    pieces: list[str] = []
    turn = asyncio.run(conversation.ask("Who are you?", lambda chunk: pieces.append(chunk.text)))
    assert pieces == ["Tres", " Comas"]
    assert (turn.answer, turn.ending, turn.tokens) == ("Tres Comas", "complete", 42)
    assert turn.first_token_seconds is not None
    assert turn.tokens_per_second is not None
    assert "42 tokens" in turn.summary()
    assert "tokens/s" in turn.summary()
    assert "first token after" in turn.summary()
    assert server.keys == [f"Bearer {KEY}"]
    body = server.bodies[0]
    assert body["model"] == "hooli/gavin_bake"
    assert body["stream_options"] == {"include_usage": True}
    assert body["temperature"] == 0.5


def test_a_question_is_sent_with_the_system_prompt_and_the_history(server: Server, conversation: Conversation) -> None:
    conversation.system = "Be brief."
    asyncio.run(conversation.ask("one", ignore))
    asyncio.run(conversation.ask("two", ignore))
    assert server.bodies[1]["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "reply 1"},
        {"role": "user", "content": "two"},
    ]


def test_without_a_chosen_length_an_answer_has_what_fits_in_a_small_context_window(
    server: Server, conversation: Conversation
) -> None:
    too_long = refuses(400, {"error": {"message": "max_tokens=1024 is more than 512"}})
    server.next = [too_long, answers("Short.")]
    assert asyncio.run(conversation.ask("hi", ignore)).answer == "Short."
    assert [body.get("max_tokens") for body in server.bodies] == [1024, None]
    server.next = [too_long, refuses(400, {"error": {"message": "the prompt alone has 600 tokens"}})]
    with pytest.raises(ChatError, match="the prompt alone has 600 tokens"):
        asyncio.run(conversation.ask("hi", ignore))
    conversation.options["max_tokens"] = 1024
    server.next = [too_long]
    with pytest.raises(ChatError, match="max_tokens=1024 is more than 512"):
        asyncio.run(conversation.ask("hi", ignore))
    assert len(server.bodies) == 5, "a length that the user chose is not changed"


def test_events_may_be_cut_anywhere(server: Server, conversation: Conversation) -> None:
    text = "naïve \u2028 \U0001f35e bread"  # U+2028 ends a line for str.splitlines, but not in an event stream
    wire = b": ping\r\n\r\n" + event({"choices": [{"delta": {"content": text}}]}).replace(b"\n", b"\r\n")
    wire += b"data:" + event({"choices": [{"delta": {"content": None}, "finish_reason": "stop"}]})[6:]
    server.next = [sends(*(bytes([byte]) for byte in wire + b"data: [DONE]\n\n"))]
    assert asyncio.run(conversation.ask("hi", ignore)).answer == text


def test_control_characters_and_lone_surrogates_never_arrive(server: Server, conversation: Conversation) -> None:
    server.next = [
        sends(rb'data: {"choices":[{"delta":{"content":"a\u001b]0;x\u0007\u009b31m\r\n\tb\ud83d"}}]}', b"\n")
    ]
    shown: list[str] = []
    with pytest.raises(ChatError, match="before it was complete"):
        asyncio.run(conversation.ask("hi\x1b[2J", lambda chunk: shown.append(chunk.text)))
    assert shown == ["a]0;x31m\n\tb\ufffd"]
    assert contents(server.bodies[0]) == ["hi[2J"]
    server.models = ["evil\x1b[2J"]
    assert conversation.client.models() == ["evil[2J"]


def test_a_thought_is_shown_but_is_not_part_of_the_answer(server: Server, conversation: Conversation) -> None:
    server.next = [answers("Yes.", thought="Hmm.")]
    chunks: list[Chunk] = []
    assert asyncio.run(conversation.ask("sure?", chunks.append)).answer == "Yes."
    assert [chunk.thought + chunk.text for chunk in chunks] == ["Hmm.", "Yes."]


def test_an_answer_cut_by_the_token_limit_is_marked(server: Server, conversation: Conversation) -> None:
    server.next = [answers("On and", finish_reason="length")]
    turn = asyncio.run(conversation.ask("go", ignore))
    assert turn.ending == "cut"
    assert turn.summary().startswith("[cut at the longest answer (--max-tokens), ")


@pytest.mark.parametrize(
    "behaviour",
    [
        refuses(503, {"error": {"message": "asleep"}}),
        sends(b'data: {"error": {"message": "out of memory"}}\n\n'),
        sends(b"data: {not json\n\n"),
        breaks_after(),
    ],
    ids=["refused", "failed", "no JSON", "broken"],
)
def test_a_failed_question_leaves_the_history_alone_and_can_be_retried(
    server: Server, conversation: Conversation, behaviour: Behaviour
) -> None:
    asyncio.run(conversation.ask("one", ignore))
    server.next = [behaviour]
    with pytest.raises(ChatError):
        asyncio.run(conversation.ask("two", ignore))
    assert conversation.unanswered == "two"
    assert [turn.question for turn in conversation.turns] == ["one"]
    assert asyncio.run(conversation.retry(ignore)).answer == "reply 3"
    assert contents(server.bodies[2]) == ["one", "reply 1", "two"]
    assert conversation.unanswered is None


def test_a_failed_question_is_dropped_when_the_next_is_answered(server: Server, conversation: Conversation) -> None:
    server.next = [refuses(503, {})]
    with pytest.raises(ChatError):
        asyncio.run(conversation.ask("one", ignore))
    asyncio.run(conversation.ask("two", ignore))
    assert contents(server.bodies[1]) == ["two"]
    assert conversation.unanswered is None


@pytest.mark.parametrize(
    "behaviour", [breaks_after("half an"), sends(event({"choices": [{"delta": {"content": "half an"}}]}))]
)
def test_a_broken_answer_is_kept_as_broken_and_replaced_by_a_retry(
    server: Server, conversation: Conversation, behaviour: Behaviour
) -> None:
    server.next = [behaviour, refuses(503, {})]
    with pytest.raises(ChatError):
        asyncio.run(conversation.ask("one", ignore))
    broken = conversation.turns
    assert [(turn.answer, turn.ending) for turn in broken] == [("half an", "broken")]
    with pytest.raises(ChatError):
        asyncio.run(conversation.retry(ignore))
    assert conversation.turns == broken, "a failed retry must keep the old answer"
    asyncio.run(conversation.retry(ignore))
    assert [(turn.answer, turn.ending) for turn in conversation.turns] == [("reply 3", "complete")]
    assert contents(server.bodies[2]) == ["one"]


def test_an_interrupt_closes_the_connection_and_keeps_the_partial_answer(
    server: Server, conversation: Conversation
) -> None:
    server.next = [never_ends("I was")]

    def interrupt(chunk: Chunk) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()  # as asyncio does at a Ctrl-C

    turn = asyncio.run(conversation.ask("one", interrupt))
    assert (turn.answer, turn.ending) == ("I was", "stopped")
    assert server.dropped.wait(PATIENCE_SECONDS)
    asyncio.run(conversation.ask("two", ignore))
    assert contents(server.bodies[1]) == ["one", "I was", "two"]
    messages = conversation.transcript()["messages"]
    assert messages[1] == {"role": "assistant", "content": "I was", "model": "hooli/gavin_bake", "ending": "stopped"}


def test_an_empty_answer_stays_out_of_the_history(server: Server, conversation: Conversation) -> None:
    server.next = [answers()]
    turn = asyncio.run(conversation.ask("one", ignore))
    assert (turn.answer, turn.ending) == ("", "complete")
    assert "no answer" in turn.summary()
    assert conversation.turns == []
    assert conversation.unanswered == "one"


def test_there_is_nothing_to_retry_at_first(conversation: Conversation) -> None:
    with pytest.raises(ChatError, match="no question"):
        asyncio.run(conversation.retry(ignore))


def test_a_base_url_may_end_in_v1(server: Server) -> None:
    client = ChatClient(f"{server.url}/v1/", KEY)
    assert client.models() == MODELS
    client.close()
