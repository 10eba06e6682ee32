"""A repo with two bakes on the application with a fake engine."""

from baker.types import Checkpoint
from gateway.services import Services
from tests.baker.grown import baked


async def grow(services: Services) -> list[Checkpoint]:
    """`first`, and `second` which continues it."""
    first = await services.catalog(baked, "first")
    return [first, await services.catalog(baked, "second", first)]
