"""vLLM's worker process imports this module (`--worker-extension-cls`) before it builds the model.

Importing it is what counts: vLLM gives a worker no other hook that early. Nothing else may import it.
"""

from vllm.platforms import current_platform

from gateway.engine import owner, weights


class WorkerExtension:
    """Mixed into vLLM's worker; adds no methods to it."""


owner.end_with_owner()
weights.refuse_non_finite()
if current_platform.is_cpu():
    from gateway.engine import cpu_worker

    cpu_worker.install()
