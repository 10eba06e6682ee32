"""The service's settings. Read once at start and handed down.

Options take precedence over environment variables, these over a `.env` file in the working folder, and that over the
defaults.
"""

import argparse
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_args

import msgspec
from dotenv import dotenv_values
from msgspec import Meta

from baker.config.mistakes import parse_complaint
from baker.errors import ConfigError
from baker.suggestions import did_you_mean

Port = Annotated[int, Meta(ge=0, le=65535)]
Positive = Annotated[int, Meta(ge=1)]
Seconds = Annotated[float, Meta(ge=0.0)]
Share = Annotated[float, Meta(gt=0.0, le=1.0)]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Each field is an option; its `Meta.description` is its line in `--help` and in the README."""

    home: Annotated[
        str, Meta(description="folder for everything that must survive a restart: database, adapters, models")
    ] = ".bread"
    host: Annotated[str, Meta(description="address to listen on")] = "127.0.0.1"
    port: Annotated[Port, Meta(description="port to listen on; 0: any free port")] = 8080
    api_key: Annotated[
        str, Meta(description="master key; empty: the one in HOME/master.key, generated at the first start")
    ] = ""
    base_url: Annotated[str, Meta(description="URL at which clients reach this service; empty: http://HOST:PORT")] = ""
    allowed_origins: Annotated[
        str,
        Meta(description="origins of web pages that may call this service from a browser, separated by ','; *: all"),
    ] = ""
    model: Annotated[
        str, Meta(description="base model: a folder or the name of a model on Hugging Face; empty: the embedded model")
    ] = ""
    model_name: Annotated[
        str, Meta(description="name under which the base model is served; empty: the value of --model")
    ] = ""
    anthropic_api_key: Annotated[str, Meta(description="API key for claude-* question generators")] = ""
    anthropic_base_url: Annotated[
        str, Meta(description="server with Anthropic's Messages API; empty: Anthropic's own")
    ] = ""
    stim_fallback: Annotated[
        Literal["on", "off"], Meta(description="without an Anthropic key, let the base model write the questions")
    ] = "on"
    top_logprobs: Annotated[
        int, Meta(ge=1, le=1024, description="number of the teacher's likeliest tokens to store per position (K)")
    ] = 32
    rollout_max_tokens: Annotated[
        int, Meta(ge=0, description="longest answer of a rollout in tokens; 0: 1024, or 192 with the embedded model")
    ] = 0
    max_loras: Annotated[Positive, Meta(description="number of adapters that can answer at the same time")] = 8
    max_lora_rank: Annotated[
        Literal[8, 16, 32, 64, 128, 256, 320, 512],
        Meta(description="highest adapter rank; every adapter slot takes memory for this rank"),
    ] = 32
    max_cpu_loras: Annotated[
        Positive, Meta(description="number of adapters kept in host memory; others are read from disk when needed")
    ] = 32
    import_folders: Annotated[
        str, Meta(description="folders that /v1/load_lora_adapter may read besides HOME/import, separated by ':'")
    ] = ""
    max_model_len: Annotated[
        int, Meta(ge=0, description="context window in tokens; 0: the model's own, on a CPU at most 4096")
    ] = 0
    kv_cache_gib: Annotated[
        float,
        Meta(ge=0.0, description="memory for the KV cache on a CPU in GiB; 0: an eighth of the free memory, 0.25 to 2"),
    ] = 0.0
    gpu_memory_utilization: Annotated[
        Share, Meta(description="share of the GPU's memory for the engine; the rest is for baking")
    ] = 0.5
    share_weights: Annotated[
        Literal["on", "off"],
        Meta(description="on one GPU, train bakes on the engine's weights instead of a second copy"),
    ] = "off"
    engine_stall_seconds: Annotated[
        float, Meta(ge=4.0, description="kill and restart the engine if it makes no progress for this many seconds")
    ] = 120.0
    tool_call_parser: Annotated[
        str, Meta(description="vLLM's parser for tool calls; empty: chosen from the chat template")
    ] = ""
    tokenizer_info: Annotated[
        Literal["on", "off"],
        Meta(description="serve /tokenizer_info: special tokens and the chat template, with any key"),
    ] = "off"
    reasoning_parser: Annotated[
        str, Meta(description="vLLM's parser for reasoning, or none; empty: chosen from the chat template")
    ] = ""
    vllm_args: Annotated[str, Meta(description="more options for vLLM's server, as on its command line")] = ""
    wandb: Annotated[
        Literal["on", "off"], Meta(description="let bakes send metrics to Weights & Biases with this machine's login")
    ] = "off"
    trainer_threads: Annotated[int, Meta(ge=0, description="CPU threads of a bake; 0: all cores")] = 0
    trainer_devices: Annotated[
        int, Meta(ge=0, description="number of processes that train one bake, each on its own GPU; 0: one per GPU")
    ] = 0
    max_waiting: Annotated[
        int, Meta(ge=0, description="model requests that may wait while the engine is busy; further ones get 503")
    ] = 1024
    key_concurrency: Annotated[
        int, Meta(ge=0, description="model requests that one key may have in flight; 0: no limit per key")
    ] = 0
    key_requests_per_minute: Annotated[
        int, Meta(ge=0, description="model requests per minute of one key; 0: no limit")
    ] = 0
    key_tokens_per_minute: Annotated[
        int, Meta(ge=0, description="tokens that one key may read and write per minute; 0: no limit")
    ] = 0
    request_timeout_seconds: Annotated[
        Seconds, Meta(description="longest time for one answer, including the wait; 0: no limit")
    ] = 3600.0
    answer_keep_alive_seconds: Annotated[
        Seconds,
        Meta(description="seconds after which an answer that isn't streamed sends a space to stay open; 0: never"),
    ] = 45.0
    stream_keep_alive_seconds: Annotated[
        Seconds, Meta(description="seconds of silence after which a stream sends a comment to stay open; 0: never")
    ] = 15.0
    stream_stall_seconds: Annotated[
        Seconds, Meta(description="seconds after which a stream ends if its client reads nothing; 0: never")
    ] = 60.0
    max_body_mib: Annotated[Positive, Meta(description="largest request body in MiB")] = 32
    grace_seconds: Annotated[
        int, Meta(ge=0, description="seconds that running answers may take to finish when the service stops")
    ] = 30
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="lowest level that is logged")
    ] = "info"
    log_format: Annotated[Literal["text", "json"], Meta(description="text lines, or one JSON object per line")] = "text"
    log_prompts: Annotated[Literal["on", "off"], Meta(description="log the prompts that clients send to models")] = (
        "off"
    )


_NOT_PREFIXED = ("anthropic_api_key", "anthropic_base_url")


def environment_name(field: str) -> str:
    return field.upper() if field in _NOT_PREFIXED else f"BREAD_{field.upper()}"


class Given(NamedTuple):
    """A setting that was given as text."""

    value: str
    source: str
    """Where it was given: an option, a variable, or a line of a file."""


def read_settings(arguments: Sequence[str], environment: Mapping[str, str], folder: Path) -> Settings:
    """The settings. Raises: ConfigError that names what is wrong and where it was given; SystemExit for `--help`."""
    options, unknown = _parser().parse_known_args(arguments)
    settings = given_settings(Settings.__struct_fields__, vars(options), environment, folder)
    mistakes = [mistake for field in settings if (mistake := _mistake(field, settings[field])) is not None]
    if unknown_options := _unknown_options(unknown):
        mistakes = [*unknown_options, *mistakes]
    if mistakes:
        raise ConfigError("; ".join(mistakes))
    values = {field: given.value for field, given in settings.items()}
    return msgspec.convert(values, Settings, strict=False)


def given_settings(
    fields: Iterable[str], options: Mapping[str, str | None], environment: Mapping[str, str], folder: Path
) -> dict[str, Given]:
    """What the options, the environment or `folder`/.env say, in this order, by field; unset fields are missing."""
    file = folder / ".env"
    lines = dotenv_values(file)
    settings = {}
    for field in fields:
        name = environment_name(field)
        option = f"--{field.replace('_', '-')}"
        sources = ((options.get(field), option), (environment.get(name), f"the variable {name}"))
        value, source = next(
            (each for each in sources if each[0] is not None),
            (lines.get(name), f"the line {name} ({option}) of {file}"),
        )
        if value:
            settings[field] = Given(value, source)
    return settings


def values_given(
    fields: Iterable[str], options: Mapping[str, str | None], environment: Mapping[str, str], folder: Path
) -> dict[str, str]:
    """Field -> its text; see `given_settings`."""
    return {field: given.value for field, given in given_settings(fields, options, environment, folder).items()}


def _mistake(field: str, given: Given) -> str | None:
    try:
        msgspec.convert({field: given.value}, Settings, strict=False)
    except msgspec.ValidationError as error:
        choices = _choices(next(each for each in msgspec.structs.fields(Settings) if each.name == field))
        if not choices:
            return f"{given.source} is {given.value!r}: {parse_complaint(error).text}"
        return f"{given.source} is {given.value!r}; allowed: {', '.join(choices)}{did_you_mean(given.value, choices)}"
    return None


def _unknown_options(arguments: list[str]) -> list[str]:
    """A mistake for each argument that is no option."""
    known = [f"--{field.replace('_', '-')}" for field in Settings.__struct_fields__]
    options = [argument for argument in arguments if argument.startswith("-")]
    return [
        f"{argument.partition('=')[0]} is not an option{did_you_mean(argument.partition('=')[0], known)}"
        for argument in options or arguments
    ]


def _choices(field: msgspec.structs.FieldInfo) -> list[str]:
    """The values that a setting may have, if they are few."""
    return [str(choice) for choice in get_args(field.type.__origin__)]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m gateway",
        description="Serve a language model and bake prompts into it, behind OpenAI's API.",
        epilog="Options take precedence over environment variables, and these over a .env file in the working folder. "
        "Users and their keys: python -m gateway users --help.",
    )
    for field in msgspec.structs.fields(Settings):
        default = "empty" if field.default == "" else field.default
        text = f"{_description(field.type)} [{environment_name(field.name)}; default: {default}]"
        parser.add_argument(
            f"--{field.name.replace('_', '-')}",
            metavar="|".join(_choices(field)) or "VALUE",
            help=text.replace("%", "%%"),
        )
    return parser


def _description(annotation: Any) -> str:
    return next(note.description for note in annotation.__metadata__ if isinstance(note, Meta) and note.description)
