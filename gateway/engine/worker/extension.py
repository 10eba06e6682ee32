"""The module that vLLM's worker imports (`--worker-extension-cls`) before it builds the model: in the worker's process,
or on CPUs in the engine core's.

The import itself installs the patches, because vLLM 0.32 gives a worker no other hook this early. Nothing else may
import this module.
"""

from vllm.platforms import current_platform

from gateway.engine.worker import grammar_backends, grammars, lending, logits, owner, strength, weights


class WorkerExtension:
    """Mixed into vLLM's worker; `collective_rpc` can call its methods."""

    def lend_weights(self) -> bytes | str:
        return lending.handles_of(self)


owner.end_with_owner()
owner.leave_interrupts_to_owner()
strength.scale_by_name()
weights.refuse_non_finite()
logits.leave_logits_alone()
grammars.compile_beside_the_engine()
grammar_backends.compile_with_chosen_backend()
if current_platform.is_cpu():
    from gateway.engine.worker import cpu_logprobs, cpu_lora, cpu_norms

    cpu_lora.install()
    cpu_logprobs.install()
    cpu_norms.install()
