"""Chooses the base model to serve."""

from pathlib import Path

from baker.errors import ConfigError
from baker.model_names import BaseModelNames
from gateway.config import Settings
from gateway.engine import EngineSettings
from gateway.serving import embedded_model


def choose_base_model(settings: Settings, home: Path) -> tuple[EngineSettings, BaseModelNames]:
    """The engine's settings and the base model's names. Prepares the embedded model if no model is configured.

    Raises: ConfigError if the configured model is neither a folder nor found; see also `embedded_model.prepare`.
    """
    if settings.model:
        path, name, stands_in = Path(settings.model), settings.model_name or settings.model, False
        if not path.is_dir():
            path = _cached(settings.model)
    else:
        if not embedded_model.is_prepared(home):
            print("Preparing the embedded model: once, about 20 seconds.", flush=True)
        path = embedded_model.prepare(home)
        name, stands_in = settings.model_name or embedded_model.MODEL_NAME, True
    engine_settings = EngineSettings(
        model=path,
        name=name,
        max_model_len=settings.max_model_len or None,
        max_loras=settings.max_loras,
        max_cpu_loras=settings.max_cpu_loras,
        max_lora_rank=settings.max_lora_rank,
        kv_cache_gib=settings.kv_cache_gib or None,
        gpu_memory_utilization=settings.gpu_memory_utilization,
        max_logprobs=max(64, settings.top_logprobs),
        tool_call_parser=settings.tool_call_parser or None,
        reasoning_parser={"": None, "none": ""}.get(settings.reasoning_parser, settings.reasoning_parser),
        lends_weights=settings.share_weights == "on",
        extra_args=settings.vllm_args.split(),
    )
    return engine_settings, BaseModelNames(served=name, stands_in=stands_in)


def _cached(name: str) -> Path:
    """Folder of a model in Hugging Face's cache, downloaded if it is missing and the Hub can be reached."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt"]))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError) as error:
        raise ConfigError(
            f"--model {name!r} is neither a folder nor a model that can be downloaded from Hugging Face: {error}"
        ) from error
