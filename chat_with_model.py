"""Chat in the terminal with any model that a Bread gateway serves.

    python chat_with_model.py --model my_first_repo/gavin_bake
    echo "Who are you?" | python chat_with_model.py            # one answer per line, then it ends

It stays one file because the guide has users run it from the top level and edit its constants. It uses only HTTP.
From top to bottom: text (`Wrapper` breaks lines), HTTP (`ChatClient` makes the requests), the `Conversation` with its
history, output (`Screen` and two ways to show answers), the commands (`Chat`), and the terminal's own loop and keys.
Control characters are removed from everything that the server sends, so no model can control the terminal.
"""

# ruff: noqa: E402 - the right interpreter must be found before the imports that need it
from __future__ import annotations

import argparse
import asyncio
import dataclasses
import difflib
import html
import io
import json
import os
import re
import signal
import ssl
import sys
import termios
import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import aclosing, closing, contextmanager, suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

# Edit these. Command line options take precedence, then the environment, then .env in the working folder.
BREAD_API_KEY = "sk-your-api-key"
BASE_URL = "http://127.0.0.1:8080"  # without /v1; BREAD_BASE_URL in the environment
MODEL_NAME = "my_first_repo/gavin_bake"  # repo_name/bake_name
FIRST_BAKE = "first_bake/pirate"  # of examples/first_bake.py
TEMPERATURE = 0.7
MAX_TOKENS = 1024
EXTRA_BODY: dict[str, Any] = {}  # extra fields of each request: {"chat_template_kwargs": {"enable_thinking": False}}

if __name__ == "__main__" and not all(map(find_spec, ("dotenv", "httpx", "prompt_toolkit"))):
    venv_python = Path(__file__).resolve().parent / ".venv" / "bin" / "python"
    if venv_python.exists() and "BREAD_CHAT_IN_VENV" not in os.environ:  # else a broken .venv would restart forever
        os.environ["BREAD_CHAT_IN_VENV"] = "1"
        os.execv(venv_python, [str(venv_python), *sys.argv])
    sys.exit("error: needs httpx, prompt-toolkit and python-dotenv; `make serve` installs them into .venv.")

import httpx
from dotenv import dotenv_values
from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.enums import DEFAULT_BUFFER
from prompt_toolkit.filters import Condition, has_focus
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings
from wcwidth import wcswidth

CONTROL_CHARACTERS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # C0 and C1, except tab and newline
LOOPBACK = {"localhost", "127.0.0.1", "::1"}

Ending = Literal["complete", "cut", "stopped", "broken"]
"""What ended an answer: the model, the token limit, the user's Ctrl-C, or an error."""


class ChatError(Exception):
    """An error message for the user: what happened, and what to do."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        """HTTP status of the response, if the server refused the request."""


# Text


def clean(text: str) -> str:
    """Text without control characters, which a terminal would obey, and lone surrogates, which it can't print."""
    return CONTROL_CHARACTERS.sub("", text).encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def sentence(text: str) -> str:
    return clean(text).rstrip(". \n") + "."


def similar(word: str, known: Iterable[str]) -> list[str]:
    """At most three of the known names that contain the word or resemble it, or have a part that does, best first."""

    def likeness(name: str) -> float:
        parts, size = name.lower().split("/"), word.count("/") + 1
        windows = ["/".join(parts[start : start + size]) for start in range(len(parts))]
        return max(difflib.SequenceMatcher(None, word.lower(), window).ratio() for window in windows)

    likenesses = {name: 1.0 if word.lower() in name.lower() else likeness(name) for name in known}
    ranked = sorted(likenesses, key=lambda name: likenesses[name], reverse=True)
    return [name for name in ranked if likenesses[name] >= 0.6][:3]


def did_you_mean(names: Sequence[str], otherwise: str) -> str:
    return f"Did you mean {' or '.join(names)}?" if names else otherwise


OPENING, CLOSING = "「『（【〈《", "、。，．！？：；」』）】〉》"  # noqa: RUF001 - fullwidth, for CJK
CJK = r"\u2e80-\ua4cf\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6\U00020000-\U0003fffd"
TOKEN = re.compile(
    rf"\n|[ \t]+|[{OPENING}]*[{CJK}][{CLOSING}]*|(?:(?![{CJK} \t\n]).)+[{CLOSING}]*",  # a CJK character is a word
    re.DOTALL,
)
FENCE = re.compile(r"(```+[^`]*|~~~+.*)")
LIST_MARKER = re.compile(r"[-*+•]|\d{1,3}[.)]")
NARROWEST, WIDEST = 20, 100
"""Columns: in fewer, the terminal breaks lines wherever they end; more are hard to read."""
NARROWEST_COLUMN = 36
"""Columns of each of two answers side by side; an 80-column terminal has room for 38."""


def columns_of(text: str) -> int:
    return max(0, wcswidth(text.expandtabs(8)))


class Wrapper:
    """Breaks a streamed text at words. Holds a word back until its end arrives.

    Continued lines of a list are indented under its text. Lines of code and tables, and words longer than a line
    (URLs), stay whole: the terminal breaks them on screen, but copies them as one.
    """

    def __init__(self, width: Callable[[], int], write: Callable[[str], None]) -> None:
        """Args: width: columns of the screen now; it may change between words."""
        self._width = width
        self._write = write
        self._held = ""
        self._is_code = False
        self._start_line()

    def _start_line(self) -> None:
        self._is_line_start, self._is_verbatim = True, False
        self._gap = ""
        self._column = self._indent = 0

    def feed(self, text: str) -> None:
        tokens = TOKEN.findall(self._held + text)
        self._held = tokens.pop() if tokens and tokens[-1] != "\n" else ""
        for token in tokens:
            self._put(token)

    def finish(self) -> None:
        self._put(self._held)
        self._held = ""

    def _put(self, token: str) -> None:
        if token == "\n":
            self._write("\n")
            self._start_line()
        elif not token.strip(" \t"):
            self._gap += token
        else:
            if self._is_line_start:
                self._recognise(token)
            self._place(token)

    def _recognise(self, word: str) -> None:
        """Find out from its first word what kind of line this is."""
        self._is_line_start = False
        is_fence, is_item = FENCE.fullmatch(word), LIST_MARKER.fullmatch(word)
        indent = columns_of(self._gap)
        is_indented_code = indent >= 4 and not is_item
        self._is_verbatim = bool(is_fence) or self._is_code or is_indented_code or word.startswith("|")
        self._is_code ^= bool(is_fence)
        self._indent = indent + (columns_of(word) + 1 if is_item else 0)

    def _place(self, word: str) -> None:
        screen = self._width()
        room = min(screen, WIDEST)
        columns = columns_of(self._gap + word)
        is_full = self._column + columns > room and self._column > self._indent
        if is_full and not self._is_verbatim and screen >= NARROWEST:
            self._column = self._indent if self._indent <= room // 2 else 0
            self._gap = "\n" + " " * self._column
            columns = columns_of(word)
        self._write(self._gap + word)
        self._gap = ""
        self._column += columns
        if 0 < screen < self._column:  # the terminal broke the line
            self._column %= screen


# HTTP


async def sse_data(pieces: AsyncIterable[bytes]) -> AsyncIterator[str]:
    """The data of each server-sent event. httpx's aiter_lines would also split at U+2028, which JSON allows."""
    rest = b""
    async for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                yield line[5:].decode("utf-8", "replace").strip()


def reason(body: Any) -> str:
    """The sentence in an error's body: OpenAI's, Anthropic's, FastAPI's, a proxy's. Empty if there is none."""
    if isinstance(body, str):
        return clean(body).strip()
    if isinstance(body, list):
        return "; ".join(filter(None, map(reason, body)))
    if not isinstance(body, dict):
        return ""
    text = next(filter(None, (reason(body.get(key)) for key in ("error", "message", "detail", "msg", "title"))), "")
    place = body.get("loc")  # FastAPI's list of mistakes names each field
    return f"{clean('.'.join(map(str, place)))}: {text}" if isinstance(place, list) and text else text


def page_title(page: str) -> str:
    """What a proxy's error page says: its title, else its text."""
    title = re.search(r"<title[^>]*>(.*?)</title>", page, re.DOTALL | re.IGNORECASE)
    text = title[1] if title else re.sub(r"<(style|script).*?</\1>|<[^>]*>", " ", page, flags=re.DOTALL)
    return " ".join(clean(html.unescape(text)).split())[:200]


def system_error(error: BaseException) -> str:
    """Why no connection could be made, as the operating system says it."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno and not isinstance(cause, ssl.SSLError):
            return os.strerror(cause.errno) if cause.errno > 0 else str(cause.strerror)  # below 0: unknown host
        cause = cause.__cause__ or cause.__context__
    return clean(str(error)).strip(". ") or "no answer"


REFUSALS = {
    400: "The server refuses the request",
    401: "The server refuses the key",
    403: "The server refuses the key",
    404: "Not found",
    413: "The request is too long",
    422: "The server refuses the request",
    429: "Too many requests",
    502: "The service behind the proxy does not answer",
    503: "The model can't answer yet",
    504: "The answer took too long",
}


def refusal(response: httpx.Response) -> ChatError:
    """The error for a response without an answer, whose body was read."""
    status = response.status_code
    try:
        message = reason(json.loads(response.content))
    except (ValueError, RecursionError):
        message = page_title(response.text)
    if response.is_success or response.is_redirect:
        moved = response.headers.get("location")
        what = f"sends requests on to {clean(moved)}" if moved else "answers, but not as OpenAI's chat API does"
        return ChatError(f"{response.request.url} {what}: check the base URL (BREAD_BASE_URL, without /v1).", status)
    what = REFUSALS.get(status, "The server failed" if status >= 500 else "The server refuses the request")
    text = sentence(f"{what} (HTTP {status}): {message or 'it gives no reason'}")
    if status in {401, 403}:
        text += " Start the chat again with BREAD_API_KEY as in the .env of `make serve`, or with --api-key."
    if (seconds := response.headers.get("retry-after", "")).isdigit():
        text += f" Try again in {int(seconds)} s."
    return ChatError(text, status)


@dataclasses.dataclass(frozen=True)
class Chunk:
    """One event of a streamed answer; any field may be empty."""

    text: str
    thought: str  # reasoning, if the server separates it from the answer
    finish_reason: str
    completion_tokens: int | None


def parse_chunk(data: str) -> Chunk:
    body = json.loads(data)
    if body.get("error"):
        raise ChatError(sentence(f"The server gave up on the answer: {reason(body) or 'it gives no reason'}"))
    choice = (body.get("choices") or [{}])[0]  # the chunk with the usage has no choices
    delta = choice.get("delta") or {}
    tokens = (body.get("usage") or {}).get("completion_tokens")
    return Chunk(
        text=clean(delta.get("content") or ""),
        thought=clean(delta.get("reasoning_content") or delta.get("reasoning") or ""),
        finish_reason=choice.get("finish_reason") or "",
        completion_tokens=tokens if isinstance(tokens, int) else None,
    )


class ChatClient:
    """OpenAI's chat API on one server. Every failed request raises a ChatError."""

    def __init__(self, base_url: str, api_key: str) -> None:
        self.base_url = base_url.rstrip("/").removesuffix("/v1")
        try:
            self._settings: dict[str, Any] = {
                "base_url": self.base_url,
                "headers": {"Authorization": f"Bearer {api_key}"},
                # A queued answer can take minutes on a CPU; Ctrl-C stops it.
                "timeout": httpx.Timeout(600, connect=10),
                # A question on a connection that the server has closed would fail.
                "limits": httpx.Limits(max_keepalive_connections=0),
                "trust_env": httpx.URL(base_url).host not in LOOPBACK,  # use no proxy for this machine
            }
            self._http = httpx.Client(**self._settings)
        except (httpx.InvalidURL, ValueError) as error:
            raise ChatError(sentence(f"Cannot use base URL {base_url!r} with this key: {error}")) from error

    def close(self) -> None:
        self._http.close()

    def models(self) -> list[str]:
        """The names that the server lists."""
        with self._errors():
            return [clean(model["id"]) for model in self._get("/v1/models")["data"]]

    def model(self, name: str) -> str:
        """The name of the model that answers to `name`: for a bake, its version.

        A server may know more names than it lists, and it may have no route for a single one.
        Raises: ChatError with status 404 if there is no such model.
        """
        with self._errors():
            try:
                model = self._get(f"/v1/models/{quote(name, safe='/@')}")
                return clean(model.get("served") or model["id"])  # only the gateway has `served`
            except ChatError as error:
                if error.status in {404, 405} and name in self.models():
                    return name
                raise

    def training(self, name: str) -> str:
        """What the bake of this model's name is doing, if it is unfinished. Empty if that can't be known."""
        parts = name.partition("@")[0].split("/")
        if len(parts) > 2 and parts[-1].isdigit():
            parts.pop()  # the step
        if len(parts) not in {2, 3}:
            return ""
        *user, repo, bake = parts
        path = f"/v1/repo/{quote(repo, safe='')}/bakes/{quote(bake, safe='')}"
        with suppress(ChatError), self._errors():
            status = self._get(path, params={"user_id": user[0]} if user else {})
            match status["status"], status.get("progress_percent"):
                case "pending", _:
                    return f"The bake {bake} waits for its training."
                case "running", int() | float() as percent:
                    return f"The bake {bake} is in training, {percent:.0f}% done."
                case "failed", _:
                    return sentence(f"The bake {bake} failed: {reason(status.get('error')) or 'it gives no reason'}")
        return ""

    def _get(self, path: str, **options: Any) -> Any:
        response = self._http.get(path, timeout=10, **options)
        if not response.is_success:
            raise refusal(response)
        try:
            return response.json()
        except ValueError:
            raise refusal(response) from None

    async def stream(self, body: Mapping[str, Any]) -> AsyncGenerator[Chunk, None]:
        """Chunks as they arrive. Closing the generator closes the connection, and the server then stops the answer."""
        is_finished = False
        with self._errors():
            async with (
                httpx.AsyncClient(**self._settings) as http,
                http.stream("POST", "/v1/chat/completions", json=body) as response,
            ):
                if not response.is_success or "text/event-stream" not in response.headers.get("content-type", ""):
                    await response.aread()
                    raise refusal(response)
                async for data in sse_data(response.aiter_bytes()):
                    if data == "[DONE]":
                        return
                    chunk = parse_chunk(data)
                    is_finished |= chunk.finish_reason not in {"", "abort", "error"}  # the last two: vLLM's
                    yield chunk
        if not is_finished:
            raise ChatError("The server ended the answer before it was complete.")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol, OverflowError) as error:
            raise ChatError(
                f"Cannot reach {self.base_url} ({system_error(error)}). Is `make serve` running there?"
            ) from error
        except httpx.TimeoutException as error:
            raise ChatError(f"{self.base_url} sent nothing for a long time; it may be overloaded.") from error
        except (httpx.ReadError, httpx.WriteError, httpx.CloseError, httpx.RemoteProtocolError) as error:
            raise ChatError(f"The connection to {self.base_url} broke before the answer was complete.") from error
        except httpx.HTTPError as error:
            raise ChatError(sentence(f"The request to {self.base_url} failed: {error}")) from error
        except (ValueError, TypeError, AttributeError, LookupError, RecursionError) as error:
            raise ChatError(
                f"{self.base_url} answers, but not as OpenAI's chat API does: check the base URL (BREAD_BASE_URL)."
            ) from error


# The conversation


@dataclasses.dataclass(frozen=True)
class Turn:
    """A question and its answer, complete or partial."""

    question: str
    answer: str
    ending: Ending
    model: str
    first_token_seconds: float | None
    tokens: int | None  # counted by the server; unknown if the answer did not reach its end
    tokens_per_second: float | None  # measured after the first token, so without the wait for it

    def summary(self) -> str:
        endings = {"complete": "", "cut": "cut at the longest answer (--max-tokens)"}
        parts = [
            endings.get(self.ending, self.ending),
            f"{self.tokens} tokens" if self.tokens else "",
            f"{self.tokens_per_second:.1f} tokens/s" if self.tokens_per_second else "",
            f"first token after {self.first_token_seconds:.2f} s" if self.first_token_seconds else "no answer",
        ]
        return f"[{', '.join(filter(None, parts))}]"


class Conversation:
    """The history of a chat as pairs of question and answer, so it never holds a question without an answer."""

    def __init__(self, client: ChatClient, model: str, system: str = "", **options: Any) -> None:
        self.client = client
        self.model = model
        self.system = system
        self.options = options
        self.turns: list[Turn] = []
        self.unanswered: str | None = None
        """The last question, if no part of an answer arrived."""

    def with_model(self, model: str) -> Conversation:
        """A copy of the conversation so far that continues with another model."""
        copy = Conversation(self.client, model, self.system, **self.options)
        copy.turns, copy.unanswered = list(self.turns), self.unanswered
        return copy

    def clear(self) -> None:
        self.turns.clear()
        self.unanswered = None

    def messages(self) -> list[dict[str, str]]:
        messages = [{"role": "system", "content": self.system}] if self.system else []
        for turn in self.turns:
            messages += [{"role": "user", "content": turn.question}, {"role": "assistant", "content": turn.answer}]
        return messages

    async def ask(self, question: str, show: Callable[[Chunk], None]) -> Turn:
        """Stream the answer into `show`. Ctrl-C (a cancelled task) stops the answer and is not raised further.

        The part of the answer that arrived joins the history, with its ending. If nothing arrived, the history stays
        unchanged and the question is kept in `unanswered`.
        Raises: ChatError after that, if the answer failed.
        """
        self.unanswered = question = clean(question)
        messages = [*self.messages(), {"role": "user", "content": question}]
        body = {"model": self.model, "messages": messages, "stream": True, "stream_options": {"include_usage": True}}
        answer, tokens, first, last, start = "", None, 0.0, 0.0, time.monotonic()
        ending: Ending = "complete"
        failure: ChatError | None = None
        try:
            async with aclosing(self._stream({**body, **self.options})) as chunks:
                async for chunk in chunks:
                    if chunk.text or chunk.thought:
                        last = time.monotonic()
                        first = first or last
                        answer += chunk.text
                        show(chunk)
                    ending = "cut" if chunk.finish_reason == "length" else ending
                    tokens = chunk.completion_tokens or tokens
        except asyncio.CancelledError:
            ending = "stopped"
        except ChatError as error:
            ending, failure = "broken", error
        rate = (tokens - 1) / (last - first) if tokens and last > first else None
        turn = Turn(question, answer, ending, self.model, first - start if first else None, tokens, rate)
        if turn.answer:
            self.turns.append(turn)
            self.unanswered = None
        if failure:
            raise failure
        return turn

    async def _stream(self, body: Mapping[str, Any]) -> AsyncGenerator[Chunk, None]:
        """The answer's chunks. Without a `max_tokens` of the user's, MAX_TOKENS or what fits in the context window."""
        if "max_tokens" not in body:
            try:
                async with aclosing(self.client.stream({**body, "max_tokens": MAX_TOKENS})) as chunks:
                    async for chunk in chunks:
                        yield chunk
                return
            except ChatError as error:
                if error.status != 400:
                    raise
                # Servers refuse more than fits. If that was not the reason, the next request is refused too.
        async with aclosing(self.client.stream(body)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def retry(self, show: Callable[[Chunk], None]) -> Turn:
        """Ask the last question again. The new answer replaces the old one, which stays if no new one arrives."""
        if self.unanswered is not None:
            return await self.ask(self.unanswered, show)
        if not self.turns:
            raise ChatError("There is no question to ask again yet.")
        replaced = self.turns.pop()
        try:
            return await self.ask(replaced.question, show)
        finally:
            if self.unanswered is not None:
                self.turns.append(replaced)
                self.unanswered = None

    def transcript(self) -> dict[str, Any]:
        """The conversation as OpenAI messages; each answer also has its model and its ending."""
        messages = self.messages()
        answers = (message for message in messages if message["role"] == "assistant")
        for message, turn in zip(answers, self.turns, strict=True):
            message.update(model=turn.model, ending=turn.ending)
        return {"base_url": self.client.base_url, "model": self.model, **self.options, "messages": messages}


def is_served(name: str, served: Sequence[str]) -> bool:
    """Whether the list has the name or a longer spelling of it: `user/repo/bake/21` for `repo/bake`.

    A strength at the end (`repo/bake@0.5`) is ignored, since the list never shows one.
    """
    bake = name.partition("@")[0]
    return name in served or ("/" in bake and any(f"/{bake}/" in f"/{other}/" for other in served))


# Output


class Screen:
    """Prints for a person or for a pipe.

    In a terminal, text is wrapped at words, and notes are dim. Without one, standard output gets only answers and
    lists, exactly as they are, and notes go to standard error.
    """

    def __init__(self, is_terminal: bool, has_style: bool) -> None:
        self.is_terminal = is_terminal
        self._has_style = has_style
        self._is_line_open = False

    def width(self) -> int:
        """Columns of the terminal now; 0 if it does not say."""
        try:
            return os.get_terminal_size(sys.stdout.fileno()).columns if self.is_terminal else 0
        except (OSError, ValueError):
            return 0

    def write(self, text: str, dim: bool = False) -> None:
        print(f"\x1b[2m{text}\x1b[0m" if dim and self._has_style else text, end="", flush=True)
        self._is_line_open = not text.endswith("\n")

    def end_line(self) -> None:
        if self._is_line_open:
            self.write("\n")

    def paragraph(self, text: str, dim: bool = False) -> None:
        pieces: list[str] = []
        wrapper = Wrapper(self.width, pieces.append)
        wrapper.feed(text)
        wrapper.finish()
        self.end_line()
        self.write("".join(pieces), dim)
        self.end_line()

    def note(self, text: str) -> None:
        if self.is_terminal:
            self.paragraph(text, dim=True)
        else:
            self.end_line()
            print(text, file=sys.stderr)

    def error(self, error: ChatError) -> None:
        if self.is_terminal:
            self.paragraph(f"error: {error}")
        else:
            self.end_line()
            print(f"error: {error}", file=sys.stderr)


class AnswerPrinter:
    """Prints an answer as it streams, in a terminal after its thoughts, which are dim."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._is_thinking = False
        self._wrapper = Wrapper(screen.width, screen.write)

    def show(self, chunk: Chunk) -> None:
        if chunk.thought and self._screen.is_terminal:
            self._switch(is_thinking=True)
            self._wrapper.feed(chunk.thought)
        if chunk.text:
            self._switch(is_thinking=False)
            if self._screen.is_terminal:
                self._wrapper.feed(chunk.text)
            else:
                self._screen.write(chunk.text)

    def _switch(self, is_thinking: bool) -> None:
        if is_thinking != self._is_thinking:
            self.finish()
            self._is_thinking = is_thinking
            self._wrapper = Wrapper(self._screen.width, lambda piece: self._screen.write(piece, dim=is_thinking))

    def finish(self) -> None:
        self._wrapper.finish()
        self._screen.end_line()


class OneByOne:
    """Shows answers one after the other: each as it streams, once the one before it has ended."""

    def __init__(self, screen: Screen, names: Sequence[str]) -> None:
        self._screen = screen
        self._names = names if len(names) > 1 else [""]
        self._chunks: list[list[Chunk]] = [[] for _ in names]
        self._endings: list[str | None] = [None for _ in names]
        self._current = 0
        self._printer = self._open()

    def _open(self) -> AnswerPrinter:
        if name := self._names[self._current]:
            self._screen.end_line()
            self._screen.write(f"--- {name}\n")
        return AnswerPrinter(self._screen)

    def show(self, index: int, chunk: Chunk) -> None:
        if index == self._current:
            self._printer.show(chunk)
        else:
            self._chunks[index].append(chunk)

    def end(self, index: int, ending: str) -> None:
        """Args: ending: text below the answer."""
        self._endings[index] = ending
        while (ending_now := self._endings[self._current]) is not None:
            self._printer.finish()
            if ending_now and self._screen.is_terminal:
                self._screen.note(ending_now)
            if self._current + 1 == len(self._endings):
                return
            self._current += 1
            self._printer = self._open()
            for chunk in self._chunks[self._current]:
                self._printer.show(chunk)


class SideBySide:
    """Shows two answers in columns, as they stream.

    A row is redrawn in place until both answers are past it, so the rows of the faster answer wait for the other.
    """

    def __init__(self, screen: Screen, names: Sequence[str]) -> None:
        self._screen = screen
        self._columns = self.columns(screen)
        self._rows = [[""] for _ in names]
        self._is_thinking = [False for _ in names]
        self._is_ended = [False for _ in names]
        self._wrappers = [
            Wrapper(lambda: self._columns, lambda text, index=index: self._add(index, text))  # type: ignore[misc]
            for index in range(len(names))
        ]
        self._printed = 0
        for index, name in enumerate(names):
            self._add(index, f"{name}\n{'-' * min(self._columns, columns_of(name))}\n")

    @staticmethod
    def columns(screen: Screen) -> int:
        """Width of each column; under NARROWEST_COLUMN there is no room for two."""
        return min(WIDEST, (screen.width() - 4) // 2)

    def show(self, index: int, chunk: Chunk) -> None:
        if chunk.thought and not self._is_thinking[index]:
            self._is_thinking[index] = True
            self._add(index, "[thinking]\n")
        self._wrappers[index].feed(chunk.text)
        self._draw()

    def end(self, index: int, ending: str) -> None:
        """Args: ending: text below the answer."""
        self._wrappers[index].finish()
        self._wrappers[index].feed(f"\n{ending}\n")
        self._is_ended[index] = True
        self._draw()

    def _add(self, index: int, text: str) -> None:
        rows = self._rows[index]
        for character in text.expandtabs(4):
            if character == "\n" or columns_of(rows[-1] + character) > self._columns:
                rows.append("")
            rows[-1] += character.removesuffix("\n")

    def _draw(self) -> None:
        while any(len(rows) > self._printed + 1 for rows in self._rows) and all(
            is_ended or len(rows) > self._printed + 1 for rows, is_ended in zip(self._rows, self._is_ended, strict=True)
        ):
            self._screen.write(f"\r{self._row()}\n")
            self._printed += 1
        if not all(self._is_ended) and self.columns(self._screen) >= self._columns:  # else the terminal got narrower
            self._screen.write(f"\r{self._row()}")

    def _row(self) -> str:
        left, right = (rows[self._printed] if self._printed < len(rows) else "" for rows in self._rows)
        return f"{left}{' ' * (self._columns - columns_of(left))} | {right}".rstrip()


# Commands


class Chat:
    """Handles a line of input: a command, the end of the chat, or a question."""

    def __init__(self, conversation: Conversation, screen: Screen) -> None:
        self.conversations = [conversation]
        """One, or two while models are compared; each keeps its own history."""
        self.screen = screen
        self.commands: dict[str, tuple[str, Callable[[str], None]]] = {
            "/help": ("show this text", self._help),
            "/model": ("[NAME]: switch to another model, or show the current one", self._model),
            "/models": ("list the served models", self._models),
            "/compare": ("[NAME | off]: let a second model answer too, each with its own history", self._compare),
            "/system": ("[TEXT | off]: set, show or remove the system prompt", self._system),
            "/reset": ("clear the conversation; model and system prompt stay", self._reset),
            "/retry": ("ask the last question again", self._retry),
            "/save": ("FILE: write the conversation as JSON to a new file", self._save),
            "/quit": ("end the chat", lambda _: None),
        }

    @property
    def conversation(self) -> Conversation:
        return self.conversations[0]

    @property
    def client(self) -> ChatClient:
        return self.conversation.client

    def handle(self, line: str) -> bool:
        """Handle a line. Returns: whether the chat continues. Raises: ChatError, after which it can continue too."""
        text = line.strip()
        word, *rest = text.split(maxsplit=1) or [""]
        command = word.lower()
        if text.lower().removeprefix("/") in {"exit", "quit", "q"}:
            return False
        if command in self.commands:
            self.commands[command][1](rest[0] if rest else "")
        elif re.fullmatch("/[a-z]+", command) and not line.startswith(" "):  # not "/etc/hosts is what?"
            advice = did_you_mean(similar(command, self.commands), "/help lists the commands.")
            raise ChatError(f"Unknown command {word}. {advice} To ask it as a question, start the line with a space.")
        elif text:
            self._answer([partial(conversation.ask, text) for conversation in self.conversations])
        return True

    def check_model(self, name: str) -> str:
        """Name of the model with the version that answers to it. Raises: ChatError with similar names, if none does."""
        try:
            answering = self.client.model(name)
        except ChatError as error:
            if error.status != 404:
                raise
            served = self.client.models()
            if training := self.client.training(name):
                raise ChatError(f"{name} can't answer yet. {training}", error.status) from error
            if is_served(name, served):  # so something else is wrong: the strength, or no version is published
                raise
            advice = did_you_mean(similar(name.partition("@")[0], served), "/models lists the served models.")
            raise ChatError(f"There is no model {name} here. {advice}", error.status) from error
        if answering == name or answering.endswith(f"/{name}"):
            return name
        version = answering.partition("@")[0]
        step = version.rpartition("/")[2]
        is_version = step.isdigit() and is_served(name, [version])
        return f"{name} ({f'version {step}' if is_version else f'answered by {answering}'})"

    def replace_missing_model(self) -> None:
        """Take the first bake, or else the first listed model, if the current one is not served."""
        missing = self.conversation.model
        try:
            self.client.model(missing)
        except ChatError as error:
            served = self.client.models() if error.status == 404 else []
            if not served:
                raise
            self.conversation.model = FIRST_BAKE if is_served(FIRST_BAKE, served) else served[0]
            training = self.client.training(missing)
            why = f"can't answer yet. {training}" if training else "is not served here (not baked yet?)."
            self.screen.note(f"{missing} {why} Using {self.conversation.model} instead.")

    def greet(self, is_chosen: bool) -> None:
        """Say which model answers, and what to type."""
        try:
            if not is_chosen:
                self.replace_missing_model()
            name = self.conversation.model
            self.screen.note(f"Talking to {self.check_model(name)} at {self.client.base_url}.")
            if training := self.client.training(name):
                self.screen.note(training)
        except ChatError as error:
            self.screen.error(error)
        self.screen.note("/help lists the commands, Ctrl-D ends the chat.")

    def _answer(self, asks: Sequence[Callable[[Callable[[Chunk], None]], Awaitable[Turn]]]) -> None:
        """Send the questions at the same time and show the answers. Raises: ChatError if one failed."""
        names = [conversation.model for conversation in self.conversations]
        is_wide = len(names) > 1 and SideBySide.columns(self.screen) >= NARROWEST_COLUMN
        view = SideBySide(self.screen, names) if is_wide else OneByOne(self.screen, names)
        errors: list[tuple[str, ChatError]] = []
        is_stopped = False

        async def answer(index: int) -> None:
            nonlocal is_stopped
            ending = ""
            try:
                turn = await asks[index](partial(view.show, index))
                ending, is_stopped = turn.summary(), is_stopped or turn.ending == "stopped"
            except ChatError as error:
                errors.append((names[index], error))
            view.end(index, ending)

        async def answer_all() -> None:
            with suppress(asyncio.CancelledError):  # Ctrl-C: each answer has ended as stopped
                await asyncio.gather(*map(answer, range(len(asks))))

        asyncio.run(answer_all())
        if errors:
            raise self._with_advice(errors)
        if is_stopped and not self.screen.is_terminal:
            raise KeyboardInterrupt

    def _with_advice(self, errors: Sequence[tuple[str, ChatError]]) -> ChatError:
        """One error for those of the models."""
        several = len(self.conversations) > 1
        lines = [f"{name}: {error}" if several else str(error) for name, error in errors]
        statuses = {error.status for _, error in errors}
        if self.screen.is_terminal and any(each.unanswered or each.turns for each in self.conversations):
            if 404 in statuses:
                lines.append("/model NAME picks another model.")
            if self.conversation.turns and statuses & {400, 413}:
                lines.append("If the conversation has become too long, /reset clears it.")
            if not statuses & {401, 403}:
                lines.append("Your question is kept: resend it with /retry or the up arrow.")
        return ChatError("\n".join(lines))

    def _help(self, _: str) -> None:
        for word, (text, _run) in self.commands.items():
            self.screen.paragraph(f"{word:9}{text}")
        self.screen.paragraph(
            "\nEnter sends; Alt+Enter, or Esc then Enter, starts a new line. Tab completes commands and models.\n"
            "Arrows recall earlier lines, Ctrl-R searches them.\n"
            "Ctrl-C stops an answer or clears the line. exit, quit, q or Ctrl-D ends the chat.\n"
            "What you type during an answer waits for the next prompt; Ctrl-C drops it."
        )

    def _model(self, name: str) -> None:
        name = name or self.conversation.model
        described = self.check_model(name)
        self.conversation.model = name
        self.screen.paragraph(f"Talking to {described}. {self.client.training(name)}".strip())

    def _models(self, _: str) -> None:
        current = {conversation.model for conversation in self.conversations}
        for name in self.client.models():
            self.screen.write(f"{'*' if name in current else ' '} {name}\n")

    def _compare(self, name: str) -> None:
        first = self.conversation.model
        if name == "off":
            del self.conversations[1:]
            self.screen.note(f"Only {first} answers now.")
        elif name:
            described = self.check_model(name)
            self.conversations[1:] = [self.conversation.with_model(name)]
            shared = "Both know the conversation so far; /reset clears it. " if self.conversation.turns else ""
            self.screen.note(f"{first} and {described} both answer now. {shared}/compare off ends this.")
        elif len(self.conversations) > 1:
            self.screen.note(f"{first} and {self.conversations[1].model} both answer. /compare off ends this.")
        else:
            raise ChatError("/compare NAME lets a second model answer too. /models lists the served models.")

    def _system(self, text: str) -> None:
        if not text:
            system = self.conversation.system
            self.screen.paragraph(f"System prompt: {system}" if system else "No system prompt. /system TEXT sets one.")
            return
        for conversation in self.conversations:
            conversation.system = "" if text == "off" else text
        self.screen.note("System prompt removed." if text == "off" else "System prompt set. /system off removes it.")

    def _reset(self, _: str) -> None:
        for conversation in self.conversations:
            conversation.clear()
        self.screen.note("Conversation cleared.")

    def _retry(self, _: str) -> None:
        self._answer([conversation.retry for conversation in self.conversations])

    def _save(self, name: str) -> None:
        transcript, *others = (conversation.transcript() for conversation in self.conversations)
        if others:
            transcript["compared_with"] = others
        text = json.dumps(transcript, ensure_ascii=False, indent=2)
        try:
            with Path(name or ".").expanduser().open("x", encoding="utf-8") as file:  # never overwrite a file
                file.write(text + "\n")
        except (OSError, RuntimeError, ValueError) as error:
            cause = getattr(error, "strerror", None) or error
            raise ChatError(f"Cannot write to {name!r} ({cause}): /save FILE needs the name of a new file.") from error
        self.screen.note(f"Saved to {name}")


# The terminal


class ChatCompleter(Completer):
    """Completes commands, and after `/model ` and `/compare ` the model names that contain the typed text."""

    def __init__(self, chat: Chat) -> None:
        self._chat = chat
        self._served: list[str] = []

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterator[Completion]:
        command, space, typed = document.text_before_cursor.partition(" ")
        if not space:
            known = self._chat.commands if command.startswith("/") else ()
            yield from (Completion(word, -len(command)) for word in known if word.startswith(command))
            return
        if command in {"/model", "/compare"}:
            with suppress(ChatError):
                self._served = self._chat.client.models()  # every time, since new bakes may appear
            yield from (Completion(name, -len(typed)) for name in self._served if typed.lower() in name.lower())
        if command in {"/compare", "/system"} and typed and "off".startswith(typed):
            yield Completion("off", -len(typed))


def open_history(environment: Mapping[str, str]) -> History:
    """Earlier input, from a file that only the user can read; in memory only if the file can't be created."""
    state = environment.get("XDG_STATE_HOME", "")
    try:
        path = (Path(state) if Path(state).is_absolute() else Path.home() / ".local/state") / "bread/chat_history"
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.chmod(0o600)
    except (OSError, RuntimeError):
        return InMemoryHistory()
    return FileHistory(str(path))


@contextmanager
def quiet_keyboard() -> Iterator[None]:
    """Keep keys that are typed during an answer off the screen; they wait for the next prompt.

    Ctrl-C still interrupts, and drops them. Ctrl-Z gives the terminal back until the chat continues.
    """
    before = termios.tcgetattr(sys.stdin)
    quiet = termios.tcgetattr(sys.stdin)
    quiet[0] &= ~termios.ICRNL  # Enter must reach the prompt as Enter
    quiet[3] &= ~(termios.ECHO | termios.ICANON)

    def suspend(*_: Any) -> None:
        termios.tcsetattr(sys.stdin, termios.TCSANOW, before)
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)  # stops here until `fg`, or not at all if no shell could continue it
        signal.signal(signal.SIGTSTP, suspend)
        termios.tcsetattr(sys.stdin, termios.TCSANOW, quiet)

    handler = signal.signal(signal.SIGTSTP, suspend)
    try:
        termios.tcsetattr(sys.stdin, termios.TCSANOW, quiet)
        yield
    finally:
        with suppress(termios.error):  # the terminal may be gone
            termios.tcsetattr(sys.stdin, termios.TCSANOW, before)
        signal.signal(signal.SIGTSTP, handler)


@contextmanager
def restored_terminal() -> Iterator[None]:
    """Leave the terminal as it was, wherever a signal ends the chat."""
    before = termios.tcgetattr(sys.stdin)
    try:
        yield
    finally:
        with suppress(termios.error):  # the terminal may be gone
            termios.tcsetattr(sys.stdin, termios.TCSANOW, before)


def end_with(signum: int, _: Any) -> None:
    """Signal handler: end as the shell reports the signal, after the terminal is restored."""
    sys.exit(128 + signum)


def prompt_of(chat: Chat) -> str:
    """The models' names, shortened to leave two thirds of the line to type in."""
    names = [conversation.model for conversation in chat.conversations]
    labels = (" | ".join(names), " | ".join(name.partition("/")[2] or name for name in names), "")
    return next(label for label in labels if len(label) <= chat.screen.width() // 3) + "> "


def run_terminal(chat: Chat, history: History) -> None:
    bindings = KeyBindings()
    is_input = has_focus(DEFAULT_BUFFER)  # not the search field of Ctrl-R
    has_text = Condition(lambda: bool(session.default_buffer.text))
    bindings.add("enter", filter=is_input)(lambda event: event.current_buffer.validate_and_handle())
    bindings.add("escape", "enter", filter=is_input)(lambda event: event.current_buffer.newline(copy_margin=False))
    bindings.add("c-c", filter=is_input & has_text)(lambda event: event.app.exit(result=""))
    session: PromptSession[str] = PromptSession(
        history=history,
        multiline=True,
        key_bindings=bindings,
        completer=ChatCompleter(chat),
        complete_while_typing=False,
        complete_in_thread=True,  # completion calls the server
        enable_suspend=True,
    )
    for signum in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, end_with)
    is_ending = False
    while True:
        try:
            line = session.prompt([("bold", prompt_of(chat))])
        except (EOFError, KeyboardInterrupt) as error:
            if is_ending or isinstance(error, EOFError):
                return
            is_ending = True
            chat.screen.note("Press Ctrl-C again, or Ctrl-D, to end the chat.")
            continue
        is_ending = False
        try:
            with quiet_keyboard():
                if not chat.handle(line):
                    return
        except KeyboardInterrupt:
            chat.screen.note("[stopped]")
        except ChatError as error:
            chat.screen.error(error)


def read_options(arguments: Sequence[str] | None, *sources: Mapping[str, str | None]) -> argparse.Namespace:
    """Read settings from the options, then the sources in order, then the constants above; empty counts as unset."""

    def find(name: str, constant: str = "") -> str:
        return next((value for source in sources if (value := (source.get(name) or "").strip())), constant)

    parser = argparse.ArgumentParser(
        description="Chat with a model of a Bread gateway. Defaults are in brackets.",
        epilog="Without a terminal it answers each line of its standard input: echo 'Who are you?' | ...",
    )
    add = parser.add_argument
    add("--api-key", default=find("BREAD_API_KEY", BREAD_API_KEY), help="or BREAD_API_KEY (as in .env)")
    add("--base-url", default=find("BREAD_BASE_URL", BASE_URL), help="without /v1; or BREAD_BASE_URL (%(default)s)")
    add("--model", default=find("MODEL_NAME"), help=f"or MODEL_NAME ({find('MODEL_NAME', MODEL_NAME)})")
    add("--vs", default="", metavar="MODEL", help="let a second model answer too, as /compare does")
    add("--system", default="", help="system prompt (none)")
    add("--temperature", type=float, default=TEMPERATURE, help="0 always takes the likeliest token (%(default)s)")
    add("--max-tokens", type=int, help=f"longest answer, in tokens ({MAX_TOKENS}, or what fits in the context window)")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # invalid bytes must not end the chat
    is_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    has_style = is_terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    try:
        options = read_options(arguments, os.environ, dotenv_values(".env", interpolate=False))
        if options.api_key == "sk-your-api-key":
            raise ChatError(
                "No API key. When the engine is ready, `make serve` writes it as BREAD_API_KEY into .env: start the "
                "chat in that folder, or set the key in the environment, with --api-key or at the top of this file. A "
                "server without keys takes any."
            )
        with closing(ChatClient(options.base_url, options.api_key)) as client:
            fields = {"temperature": options.temperature, **EXTRA_BODY}
            if options.max_tokens is not None:
                fields = {"max_tokens": options.max_tokens, **fields}
            conversation = Conversation(client, options.model or MODEL_NAME, options.system, **fields)
            chat = Chat(conversation, Screen(is_terminal, has_style))
            if is_terminal:
                chat.greet(is_chosen=bool(options.model))
            elif not options.model:
                chat.replace_missing_model()
            if options.vs:
                chat.handle(f"/compare {options.vs}")
            if is_terminal:
                with restored_terminal():
                    run_terminal(chat, open_history(os.environ))
            else:
                all(chat.handle(line) for line in sys.stdin)
    except BrokenPipeError:  # the reader left, as `| head` does: flush nothing to it at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ChatError, OSError, UnicodeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
