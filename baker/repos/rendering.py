"""Asks the served model's chat template about a prompt when it is saved, rather than when a job uses it."""

from baker.conversation import context_messages
from baker.errors import EngineError, InvalidInputError
from baker.ports import Sampler
from baker.suggestions import did_you_mean
from baker.types import Prompt

ROLES = ("system", "developer", "user", "assistant", "tool", "function")
"""Roles that chat models are trained with."""
MAX_ROLES = 16
"""Roles of one prompt that are judged: each costs a rendering."""
MAX_CHARACTERS = 200_000
"""Longer prompts are not rendered here: few fit a context window, and the rollout refuses those that don't."""
QUESTION = "Who are you?"
IGNORED_TOOLS = "the chat template of the served model does not show tools: the tools of the prompt have no effect"


async def rendering_warnings(sampler: Sampler, prompt: Prompt) -> list[str]:
    """What the chat template drops or does not know. Empty while the engine can't answer: the rollout checks again.

    Raises: InvalidInputError if the template refuses the prompt.
    """
    try:
        return await _warnings(sampler, prompt)
    except EngineError:
        return []


async def _warnings(sampler: Sampler, prompt: Prompt) -> list[str]:
    if len(str(prompt.messages)) > MAX_CHARACTERS:
        return []
    messages = context_messages(prompt, QUESTION)
    whole = await sampler.tokenise(messages, prompt.tools)
    warnings = []
    for role in [*dict.fromkeys(str(message["role"]) for message in messages)][:MAX_ROLES]:
        others = [message for message in messages if message["role"] != role]
        if role not in ("user", "assistant") and await _same(sampler, others, prompt, whole):
            warnings.append(f"the chat template does not show messages of the role {role!r}: they have no effect")
        elif role not in ROLES:
            warnings.append(
                f"{role!r} is not a role that chat models know ({', '.join(ROLES)}); the chat template writes it as it "
                f"is{did_you_mean(role, ROLES)}"
            )
    if prompt.tools and not sampler.renders_tools:
        warnings.append(IGNORED_TOOLS)
    return warnings


async def _same(sampler: Sampler, messages: list[dict[str, object]], prompt: Prompt, whole: list[int]) -> bool:
    try:
        return await sampler.tokenise(messages, prompt.tools) == whole
    except InvalidInputError:  # a template that wants turns in order
        return False
