"""Chat in the terminal with any model that a Bread gateway serves.

    python chat_with_model.py --model my_first_repo/gavin_bake
    echo "Who are you?" | python chat_with_model.py            # one answer per line, then it ends

It stays one file because the guide has users run it from the top level and edit its constants. It uses only HTTP.
`ChatClient` makes the requests, `Conversation` keeps the history, and `Chat` runs commands and prints; only
`ChatCompleter`, `run_terminal` and `main` deal with the terminal. Control characters are removed from everything that
the server sends, so no model can control the terminal.
"""

# ruff: noqa: E402 - the right interpreter must be found before the imports that need it
from __future__ import annotations

import argparse
import dataclasses
import difflib
import io
import json
import os
import re
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

# Edit these. Command line options take precedence, then the environment, then .env in the working folder.
BREAD_API_KEY = "sk-your-api-key"
BASE_URL = "http://127.0.0.1:8080"  # without /v1; BREAD_BASE_URL in the environment
MODEL_NAME = "my_first_repo/gavin_bake"  # repo_name/bake_name
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

CONTROL_CHARACTERS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # C0 and C1, except tab and newline
LOOPBACK = {"localhost", "127.0.0.1", "::1"}

Ending = Literal["complete", "cut", "stopped", "broken"]
"""What ended an answer: the model, the token limit, the user's Ctrl-C, or an error."""


class ChatError(Exception):
    """An error message for the user: what happened, and what to do."""


def clean(text: str) -> str:
    """Text without control characters, which a terminal would obey, and lone surrogates, which it can't print."""
    return CONTROL_CHARACTERS.sub("", text).encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def sse_data(pieces: Iterable[bytes]) -> Iterator[str]:
    """The data of each server-sent event. httpx's iter_lines would also split at U+2028, which JSON allows."""
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        yield from (line[5:].decode("utf-8", "replace").strip() for line in lines if line.startswith(b"data:"))


def error_message(body: Any) -> str:
    """The message in OpenAI's error object, or in the simpler bodies of proxies and of our admin routes."""
    error = body.get("error") or body if isinstance(body, dict) else body
    return clean(str(error.get("message") or error.get("detail") or error if isinstance(error, dict) else error))


def refusal(response: httpx.Response) -> ChatError:
    """The error for a response without an answer; reads the rest of its body."""
    try:
        message = error_message(json.loads(response.read()))
    except ValueError:
        message = clean(response.text[:300]).strip() or "no reason given"
    advice = {401: "the key is BREAD_API_KEY in the .env of `make serve`.", 404: "/models lists the served models."}
    hint = advice.get(response.status_code, "")
    if (seconds := response.headers.get("retry-after", "")).isdigit():
        hint = f"the server asks to wait {seconds} s."
    return ChatError(f"HTTP {response.status_code}: {message}{f' - {hint}' if hint else ''}")


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
        raise ChatError(f"The server gave up on the answer: {error_message(body)}")
    choice = (body.get("choices") or [{}])[0]  # the chunk with the usage has no choices
    delta = choice.get("delta") or {}
    return Chunk(
        text=clean(delta.get("content") or ""),
        thought=clean(delta.get("reasoning_content") or delta.get("reasoning") or ""),
        finish_reason=choice.get("finish_reason") or "",
        completion_tokens=(body.get("usage") or {}).get("completion_tokens"),
    )


class ChatClient:
    """OpenAI's chat API on one server. Every failed request raises a ChatError."""

    def __init__(self, base_url: str, api_key: str) -> None:
        self.base_url = base_url.rstrip("/").removesuffix("/v1")
        try:
            self._http = httpx.Client(
                base_url=self.base_url,
                headers={"Authorization": f"Bearer {api_key}"},
                timeout=httpx.Timeout(600, connect=10),  # a queued answer can take minutes on a CPU; Ctrl-C stops it
                limits=httpx.Limits(max_keepalive_connections=0),  # a question on a closed connection would fail
                trust_env=httpx.URL(base_url).host not in LOOPBACK,  # use no proxy for this machine
            )
        except (httpx.InvalidURL, UnicodeEncodeError) as error:
            raise ChatError(f"Cannot use base URL {base_url!r} with this key: {error}") from error

    def close(self) -> None:
        self._http.close()

    def models(self) -> list[str]:
        with self._talk():
            response = self._http.get("/v1/models", timeout=10)
            if not response.is_success:
                raise refusal(response)
            return [clean(model["id"]) for model in response.json()["data"]]

    def stream(self, body: Mapping[str, Any]) -> Generator[Chunk, None, None]:
        """Chunks as they arrive. Closing the generator closes the connection, and the server then stops the answer."""
        is_finished = False
        with self._talk(), self._http.stream("POST", "/v1/chat/completions", json=body) as response:
            if not response.is_success or "text/event-stream" not in response.headers.get("content-type", ""):
                raise refusal(response)
            for data in sse_data(response.iter_bytes()):
                if data == "[DONE]":
                    return
                chunk = parse_chunk(data)
                is_finished = is_finished or chunk.finish_reason not in {"", "abort", "error"}  # the last two: vLLM's
                yield chunk
        if not is_finished:
            raise ChatError("The server ended the answer before it was complete.")

    @contextmanager
    def _talk(self) -> Iterator[None]:
        try:
            yield
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol, OverflowError) as error:
            raise ChatError(f"Cannot reach {self.base_url} ({error}). Is `make serve` running there?") from error
        except httpx.HTTPError as error:
            raise ChatError(f"The connection to {self.base_url} broke: {error}") from error
        except (ValueError, TypeError, AttributeError, LookupError) as error:
            raise ChatError(f"{self.base_url} does not speak OpenAI's chat API: {error!r}") from error


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
        parts = [
            "" if self.ending == "complete" else self.ending,
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

    def messages(self) -> list[dict[str, str]]:
        messages = [{"role": "system", "content": self.system}] if self.system else []
        for turn in self.turns:
            messages += [{"role": "user", "content": turn.question}, {"role": "assistant", "content": turn.answer}]
        return messages

    def ask(self, question: str, show: Callable[[Chunk], None]) -> Turn:
        """Stream the answer into `show`. A KeyboardInterrupt stops the answer and is not raised further.

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
            with closing(self.client.stream({**body, **self.options})) as chunks:
                for chunk in chunks:
                    if chunk.text or chunk.thought:
                        last = time.monotonic()
                        first = first or last
                        answer += chunk.text
                        show(chunk)
                    ending = "cut" if chunk.finish_reason == "length" else ending
                    tokens = chunk.completion_tokens or tokens
        except KeyboardInterrupt:
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

    def retry(self, show: Callable[[Chunk], None]) -> Turn:
        """Ask the last question again. The new answer replaces the old one, which stays if no new one arrives."""
        if self.unanswered is not None:
            return self.ask(self.unanswered, show)
        if not self.turns:
            raise ChatError("There is no question to ask again yet.")
        replaced = self.turns.pop()
        try:
            return self.ask(replaced.question, show)
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


class Chat:
    """Handles a line of input (a command, the end of the chat, or a question) and prints the result.

    Without a terminal, standard output gets only answers and lists, and notes go to standard error.
    """

    def __init__(self, conversation: Conversation, is_terminal: bool, has_style: bool) -> None:
        self.conversation = conversation
        self._is_terminal = is_terminal
        self._has_style = has_style
        self._is_line_open = False
        self._is_dim = False
        self.commands: dict[str, tuple[str, Callable[[str], None]]] = {
            "/help": ("show this text", self._help),
            "/model": ("[NAME]: switch to another model (Tab completes), or show the current one", self._model),
            "/models": ("list the served models", self._models),
            "/system": ("[TEXT]: set the system prompt, or remove it", self._system),
            "/reset": ("clear the conversation; model and system prompt stay", self._reset),
            "/retry": ("ask the last question again", lambda _: self._answer(self.conversation.retry)),
            "/save": ("FILE: write the conversation as JSON to a new file", self._save),
        }

    def handle(self, line: str) -> bool:
        """Handle a line. Returns: whether the chat continues. Raises: ChatError, after which it can continue too."""
        text = line.strip()
        word, *rest = text.split(maxsplit=1) or [""]
        if text.lower().removeprefix("/") in {"exit", "quit", "q"}:
            return False
        if word in self.commands:
            self.commands[word][1](rest[0] if rest else "")
        elif re.fullmatch("/[a-z]+", word):  # not "/etc/hosts is what?"
            raise ChatError(f"Unknown command {word}. Commands: {', '.join(self.commands)}.")
        elif text:
            self._answer(lambda show: self.conversation.ask(text, show))
        return True

    def check_model(self, is_chosen: bool = True) -> None:
        """Print a note if the server does not list the model. If the user chose none, take the first one listed."""
        name, served = self.conversation.model, self.conversation.client.models()
        if is_served(name, served):
            return
        if served and not is_chosen:
            self.conversation.model = served[0]
            self.note(f"{name} is not served here (not baked yet?). Using {served[0]} instead.")
        else:  # only a note: a server may know more names than it lists
            names = difflib.get_close_matches(name, served, n=5, cutoff=0.4) or served[:5]
            self.note(f"{name} is not served here. /model NAME picks another: {', '.join(names) or 'none is served'}")

    def write(self, text: str, dim: bool = False) -> None:
        print(f"\x1b[2m{text}\x1b[0m" if dim and self._has_style else text, end="", flush=True)
        self._is_line_open = not text.endswith("\n")
        self._is_dim = dim

    def end_line(self) -> None:
        if self._is_line_open:
            self.write("\n")

    def note(self, text: str) -> None:
        self.end_line()
        if self._is_terminal:
            self.write(text, dim=True)
            self.end_line()
        else:
            print(text, file=sys.stderr)

    def _show(self, chunk: Chunk) -> None:
        if chunk.thought and self._is_terminal:
            self.write(chunk.thought, dim=True)
        if chunk.text:
            if self._is_dim:
                self.end_line()
            self.write(chunk.text)

    def _answer(self, ask: Callable[[Callable[[Chunk], None]], Turn]) -> None:
        try:
            turn = ask(self._show)
        except ChatError as error:
            if self._is_terminal and (self.conversation.unanswered or self.conversation.turns):
                raise ChatError(f"{error}\nYour question is kept: resend it with /retry or the up arrow.") from error
            raise
        finally:
            self.end_line()
        if self._is_terminal:
            self.note(turn.summary())
        elif turn.ending == "stopped":
            raise KeyboardInterrupt

    def _help(self, _: str) -> None:
        for word, (text, _run) in self.commands.items():
            self.write(f"{word:9}{text}\n")
        self.write("Enter sends; Alt+Enter, or Esc then Enter, starts a new line. Arrows recall, Ctrl-R searches.\n")
        self.write("Ctrl-C stops an answer or clears the line. exit, quit, q or Ctrl-D ends the chat.\n")

    def _model(self, name: str) -> None:
        if name:
            self.conversation.model = name
            self.check_model()
        self.write(f"Talking to {self.conversation.model}\n")

    def _models(self, _: str) -> None:
        for name in self.conversation.client.models():
            self.write(f"{'*' if name == self.conversation.model else ' '} {name}\n")

    def _system(self, text: str) -> None:
        before, self.conversation.system = self.conversation.system, text
        self.note("System prompt set." if text else f"System prompt removed. It was: {before or 'empty'}")

    def _reset(self, _: str) -> None:
        self.conversation.turns.clear()
        self.conversation.unanswered = None
        self.note("Conversation cleared.")

    def _save(self, name: str) -> None:
        text = json.dumps(self.conversation.transcript(), ensure_ascii=False, indent=2)
        try:
            with Path(name or ".").expanduser().open("x", encoding="utf-8") as file:  # never overwrite a file
                file.write(text + "\n")
        except (OSError, RuntimeError) as error:
            raise ChatError(f"/save FILE cannot write to {name!r}: {error}") from error
        self.note(f"Saved to {name}")


class ChatCompleter(Completer):
    """Completes commands, and after `/model ` the model names that contain the typed text."""

    def __init__(self, chat: Chat) -> None:
        self._chat = chat
        self._served: list[str] = []

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterator[Completion]:
        command, space, typed = document.text_before_cursor.partition(" ")
        if command == "/model" and space:
            with suppress(ChatError):
                self._served = self._chat.conversation.client.models()  # every time, since new bakes may appear
            yield from (Completion(name, -len(typed)) for name in self._served if typed.lower() in name.lower())
        elif command.startswith("/") and not space:
            yield from (Completion(word, -len(command)) for word in self._chat.commands if word.startswith(command))


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
    )
    is_ending = False
    chat.note(f"Talking to {chat.conversation.model} at {chat.conversation.client.base_url}. /help lists the commands.")
    while True:
        try:
            line = session.prompt([("bold", f"{chat.conversation.model}> ")])
        except (EOFError, KeyboardInterrupt) as error:
            if is_ending or isinstance(error, EOFError):
                return
            is_ending = True
            chat.note("Press Ctrl-C again, or Ctrl-D, to end the chat.")
            continue
        is_ending = False
        try:
            if not chat.handle(line):
                return
        except KeyboardInterrupt:
            chat.note("[stopped]")
        except ChatError as error:
            print(f"error: {error}", file=sys.stderr)


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
    add("--system", default="", help="system prompt (none)")
    add("--temperature", type=float, default=TEMPERATURE, help="0 always takes the likeliest token (%(default)s)")
    add("--max-tokens", type=int, default=MAX_TOKENS, help="longest answer, in tokens (%(default)s)")
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
                "No API key. `make serve` writes it as BREAD_API_KEY into .env: start the chat in that folder, or set "
                "the key in the environment, with --api-key or at the top of this file. A server without keys takes "
                "any."
            )
        with closing(ChatClient(options.base_url, options.api_key)) as client:
            fields = {"temperature": options.temperature, "max_tokens": options.max_tokens, **EXTRA_BODY}
            conversation = Conversation(client, options.model or MODEL_NAME, options.system, **fields)
            chat = Chat(conversation, is_terminal, has_style)
            if is_terminal:
                try:
                    chat.check_model(is_chosen=bool(options.model))
                except ChatError as error:
                    print(f"error: {error}", file=sys.stderr)
                run_terminal(chat, open_history(os.environ))
            else:
                if not options.model:
                    chat.check_model(is_chosen=False)
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
