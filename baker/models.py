"""Which names stand for the one base model that is served."""

import msgspec

DEFAULT_ALIASES = ("Qwen/Qwen3-32B",)
"""What our users' scripts and the clients' defaults name, though few machines hold it."""


class BaseModelNames(msgspec.Struct, frozen=True):
    served: str
    """The base model's own name."""
    stands_in: bool
    """True for the embedded model: it answers for base models that are not here, and says so. An operator who
    chose a model gets an error instead."""
    aliases: tuple[str, ...] = DEFAULT_ALIASES
    """Names that the embedded model answers to, also in chat."""

    def is_served(self, name: str) -> bool:
        return name == self.served

    def is_alias(self, name: str) -> bool:
        return self.stands_in and name in self.aliases
