"""Types of numbers within ranges, for the fields of configs."""

from typing import Annotated

import msgspec

MAX_COUNT = 2**31 - 1
"""Highest count that a config may hold. A higher one is a mistake, and the product of two counts still fits a database
integer."""

Positive = Annotated[int, msgspec.Meta(ge=1, le=MAX_COUNT)]
NonNegative = Annotated[int, msgspec.Meta(ge=0, le=MAX_COUNT)]
Questions = Annotated[int, msgspec.Meta(ge=1, le=100_000)]
"""Number of questions of a generator."""
Answers = Annotated[int, msgspec.Meta(ge=1, le=10_000)]
"""Number of answers to one question."""
Seed = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
"""Random seed, in the range of torch's generators and vLLM."""
Temperature = Annotated[float, msgspec.Meta(ge=0.0, le=2.0)]
Share = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]
