"""vLLM's routes that load and unload adapters at run time. They need the master key."""

from litestar import Response, Router, post
from litestar.params import JSONBody

from baker.errors import InvalidInputError
from gateway.http.errors import openai_error
from gateway.protocol import requests
from gateway.routes.cleanup import clean_up
from gateway.routes.dependencies import Caller, Services
from gateway.routes.guards import require_master


@post("/load_lora_adapter", status_code=200, media_type="text/plain")
async def load_lora_adapter(services: Services, caller: Caller, data: JSONBody[requests.LoraLoad]) -> str:
    """Import a PEFT adapter as a bake; with `load_inplace`, as the newest version of an existing one."""
    if data.is_3d_lora_weight:
        raise InvalidInputError("is_3d_lora_weight: adapters with all experts in one tensor are not supported")
    await services.imports.load(caller.user, data.lora_name, data.lora_path, in_place=data.load_inplace)
    return f"Success: LoRA adapter '{data.lora_name}' added successfully."


@post("/unload_lora_adapter", status_code=200, media_type="text/plain")
async def unload_lora_adapter(services: Services, caller: Caller, data: JSONBody[requests.LoraUnload]) -> Response[str]:
    """Remove an imported adapter with all its versions. Running answers continue to their end."""
    withdrawn, removed = await services.imports.unload(caller.user, data.lora_name)
    return Response(
        f"Success: LoRA adapter '{data.lora_name}' removed successfully.",
        background=clean_up(services, withdrawn, removed),
    )


ROUTER = Router(
    "/v1",
    route_handlers=[load_lora_adapter, unload_lora_adapter],
    exception_handlers={Exception: openai_error},
    guards=[require_master],
    tags=["openai"],
)
