"""The one family of errors that baking and serving raise.

    BakeryError                     the root; every leaf has a machine code
      ConfigError (ValueError)      a field that is unknown, missing, out of range or contradictory
      InvalidInputError             well formed, but it can't be done: a stage out of order, a missing prompt
      NotFoundError (LookupError)   no repo, prompt, target, bake, checkpoint or model of that name
      ConflictError                 the name is taken by something else, or it is in use
      AdapterError (ValueError)     adapter files that do not fit: base model, rank, tensors, values
      StageError (RuntimeError)     a stage of a bake failed; its text ends in the job's status
        StimError, RolloutError, CollateError, TrainingError, TrainerLostError, NeedsRoomError
      EngineError (RuntimeError)    the engine is starting, full, asleep or dead
      NotLentError (RuntimeError)   a training can't use the engine's weights, and takes a copy of its own

Nothing here knows HTTP; `gateway/http_errors.py` has the table from error to status.
"""

from typing import Any, ClassVar


class BakeryError(Exception):
    """What went wrong, with what value, and what to do about it: the text is shown to users as it is."""

    code: ClassVar[str] = "INTERNAL_ERROR"

    def __init__(self, message: str, *, detail: list[dict[str, Any]] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail
        """One entry a mistake, each with `loc` (the path to the field), `msg` and `type`."""


class ConfigError(BakeryError, ValueError):
    code = "VALIDATION_ERROR"


class InvalidInputError(BakeryError, ValueError):
    code = "INVALID_INPUT"


class NotFoundError(BakeryError, LookupError):
    code = "RESOURCE_NOT_FOUND"


class ConflictError(BakeryError):
    code = "RESOURCE_CONFLICT"


class AdapterError(BakeryError, ValueError):
    code = "ADAPTER_INVALID"


class StageError(BakeryError, RuntimeError):
    code = "STAGE_FAILED"


class StimError(StageError):
    code = "STIM_FAILED"


class RolloutError(StageError):
    code = "ROLLOUT_FAILED"


class CollateError(StageError):
    code = "COLLATE_FAILED"


class TrainingError(StageError):
    code = "TRAINING_FAILED"


class TrainerLostError(StageError):
    """The training process ended without a word; a new one can go on from the state that it kept."""

    code = "TRAINER_LOST"


class NeedsRoomError(StageError):
    """The training does not fit beside the engine, and would fit while that sleeps."""

    code = "NEEDS_ROOM"


class EngineError(BakeryError, RuntimeError):
    """The engine can't answer now, and may later."""

    code = "UNAVAILABLE"


class NotLentError(BakeryError, RuntimeError):
    """The engine's weights can't be used by a training. Never ends one: it takes a copy of its own."""

    code = "NOT_LENT"
