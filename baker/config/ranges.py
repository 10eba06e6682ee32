"""Numbers within ranges, for the fields of configs."""

from typing import Annotated

import msgspec

MOST = 2**31 - 1
"""Of a count: more is a mistake, and products of two still fit a row of the database."""

Positive = Annotated[int, msgspec.Meta(ge=1, le=MOST)]
NonNegative = Annotated[int, msgspec.Meta(ge=0, le=MOST)]
Seed = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
"""What torch's generators take, and vLLM."""
Questions = Annotated[int, msgspec.Meta(ge=1, le=100_000)]
Answers = Annotated[int, msgspec.Meta(ge=1, le=10_000)]
"""To one question."""
Temperature = Annotated[float, msgspec.Meta(ge=0.0, le=2.0)]


Share = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]
