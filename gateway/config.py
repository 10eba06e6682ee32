"""The service's settings: from options, the environment, a `.env` file in the working folder, and defaults.

The first of these that gives a value wins. Read once at start and handed down.
"""

import argparse
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import msgspec
from dotenv import dotenv_values
from msgspec import Meta

from baker.errors import ConfigError

Port = Annotated[int, Meta(ge=0, le=65535)]
Positive = Annotated[int, Meta(ge=1)]
Seconds = Annotated[float, Meta(ge=0.0)]
Share = Annotated[float, Meta(gt=0.0, le=1.0)]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """One field an option; `Meta.description` is its line in `--help`."""

    home: Annotated[str, Meta(description="folder of everything that must survive: database, adapters, models")] = (
        ".bread"
    )
    host: Annotated[str, Meta(description="address to listen on")] = "127.0.0.1"
    port: Annotated[Port, Meta(description="port to listen on; 0 takes a free one")] = 8080
    api_key: Annotated[
        str, Meta(description="the master key; empty: the one in HOME/master.key, made at first start")
    ] = ""
    base_url: Annotated[
        str, Meta(description="URL under which clients reach this service; empty: http://HOST:PORT")
    ] = ""
    model: Annotated[
        str, Meta(description="base model: a folder or a name in Hugging Face's cache; empty: the embedded one")
    ] = ""
    model_name: Annotated[str, Meta(description="name that the base model is served by; empty: as in --model")] = ""
    anthropic_api_key: Annotated[str, Meta(description="key for claude-* question generators")] = ""
    anthropic_base_url: Annotated[
        str, Meta(description="a server that speaks Anthropic's messages protocol; empty: theirs")
    ] = ""
    stim_fallback: Annotated[
        Literal["on", "off"], Meta(description="without an Anthropic key, the base model writes the questions")
    ] = "on"
    top_logprobs: Annotated[int, Meta(ge=1, le=1024, description="teacher's likeliest tokens kept a position (K)")] = 32
    rollout_max_tokens: Annotated[
        int, Meta(ge=0, description="longest answer of a rollout in tokens; 0: 1024, with the embedded model 192")
    ] = 0
    max_loras: Annotated[Positive, Meta(description="adapters that can answer at the same moment")] = 8
    max_lora_rank: Annotated[
        Literal[8, 16, 32, 64, 128, 256, 320, 512], Meta(description="highest adapter rank; each slot pays for it")
    ] = 32
    max_cpu_loras: Annotated[
        Positive, Meta(description="adapters kept in host memory; a further one is read from disk again")
    ] = 32
    import_folders: Annotated[
        str, Meta(description="folders that /v1/load_lora_adapter may read besides HOME/import, with ':' between them")
    ] = ""
    max_model_len: Annotated[
        int, Meta(ge=0, description="context window in tokens; 0: the model's own, on a CPU at most 4096")
    ] = 0
    kv_cache_gib: Annotated[
        float, Meta(ge=0.0, description="memory for the KV cache on a CPU; 0: chosen by the machine's")
    ] = 0.0
    gpu_memory_utilization: Annotated[
        Share, Meta(description="share of a GPU that the engine takes; the rest is for baking")
    ] = 0.5
    share_weights: Annotated[
        Literal["on", "off"], Meta(description="on one GPU, bakes train on the engine's weights, not on a second copy")
    ] = "off"
    engine_stall_seconds: Annotated[
        float, Meta(ge=4.0, description="an engine from which nothing comes for so long is killed and started anew")
    ] = 120.0
    tool_call_parser: Annotated[
        str, Meta(description="vLLM's parser for tool calls; empty: chosen by the chat template")
    ] = ""
    reasoning_parser: Annotated[
        str, Meta(description="vLLM's parser for reasoning, or none; empty: chosen by the chat template")
    ] = ""
    vllm_args: Annotated[str, Meta(description="more options of vLLM's server, as on its command line")] = ""
    wandb: Annotated[
        Literal["on", "off"], Meta(description="bakes may send metrics to Weights & Biases, with this machine's login")
    ] = "off"
    trainer_threads: Annotated[int, Meta(ge=0, description="CPU threads of a bake; 0: all cores")] = 0
    trainer_devices: Annotated[
        int, Meta(ge=0, description="processes that share a bake's training, a GPU each; 0: as many as there are GPUs")
    ] = 0
    max_waiting: Annotated[
        int, Meta(ge=0, description="model requests that may wait while the engine is full; one more gets 503")
    ] = 1024
    key_concurrency: Annotated[
        int, Meta(ge=0, description="model requests that one key may have in flight; 0: as many as there is room for")
    ] = 0
    key_requests_per_minute: Annotated[int, Meta(ge=0, description="model requests of one key; 0: no limit")] = 0
    key_tokens_per_minute: Annotated[
        int, Meta(ge=0, description="tokens that one key may read and write; 0: no limit")
    ] = 0
    request_timeout_seconds: Annotated[
        Seconds, Meta(description="longest time for one answer, waiting included; 0: no limit")
    ] = 3600.0
    stream_keep_alive_seconds: Annotated[
        Seconds, Meta(description="silence after which a stream gets a comment, to keep it open; 0: none")
    ] = 15.0
    stream_stall_seconds: Annotated[
        Seconds, Meta(description="time after which a client that takes nothing of its stream loses it; 0: never")
    ] = 60.0
    max_body_mib: Annotated[Positive, Meta(description="largest request body")] = 32
    grace_seconds: Annotated[
        int, Meta(ge=0, description="time that running answers get when the service is stopped")
    ] = 30
    log_level: Annotated[Literal["debug", "info", "warning", "error"], Meta(description="what is logged")] = "info"
    log_format: Annotated[Literal["text", "json"], Meta(description="lines for people, or one JSON object a line")] = (
        "text"
    )
    log_prompts: Annotated[
        Literal["on", "off"], Meta(description="what clients write to models stands in the log too")
    ] = "off"


_NOT_PREFIXED = ("anthropic_api_key", "anthropic_base_url")


def environment_name(field: str) -> str:
    return field.upper() if field in _NOT_PREFIXED else f"BREAD_{field.upper()}"


def read_settings(arguments: Sequence[str], environment: Mapping[str, str], folder: Path) -> Settings:
    """The settings. Raises: ConfigError naming each field that is wrong, all at once; SystemExit for `--help`."""
    options = vars(_parser().parse_args(arguments))
    values = values_given(Settings.__struct_fields__, options, environment, folder)
    mistakes = [complaint for field in values if (complaint := _complaint(field, values[field])) is not None]
    if mistakes:
        raise ConfigError("; ".join(mistakes))
    return msgspec.convert(values, Settings, strict=False)


def values_given(
    fields: Iterable[str], options: Mapping[str, str | None], environment: Mapping[str, str], folder: Path
) -> dict[str, str]:
    """The text of each field that an option, the environment or `folder`/.env gives; the first of them wins."""
    given = {key: value for key, value in options.items() if value is not None}
    file = {key: value for key, value in dotenv_values(folder / ".env").items() if value is not None}
    values = {}
    for field in fields:
        name = environment_name(field)
        value = given.get(field, environment.get(name, file.get(name)))
        if value is not None and value != "":
            values[field] = value
    return values


def _complaint(field: str, value: str) -> str | None:
    try:
        msgspec.convert({field: value}, Settings, strict=False)
    except msgspec.ValidationError as error:
        reason = str(error).partition(" - at ")[0]
        return f"{environment_name(field)} (--{field.replace('_', '-')}) is {value!r}: {reason}"
    return None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m gateway",
        description="Serve a language model and bake prompts into it, behind OpenAI's API.",
        epilog="An option goes before its environment variable, and that before a .env file in the working folder. "
        "Users and their keys: python -m gateway users --help.",
    )
    for field in msgspec.structs.fields(Settings):
        default = "empty" if field.default == "" else field.default
        text = f"{_description(field.type)} [{environment_name(field.name)}; default: {default}]"
        parser.add_argument(
            f"--{field.name.replace('_', '-')}",
            metavar="|".join(map(str, get_args(field.type.__origin__))) or "VALUE",
            help=text.replace("%", "%%"),
        )
    return parser


def _description(annotation: Any) -> str:
    return next(note.description for note in annotation.__metadata__ if isinstance(note, Meta) and note.description)
