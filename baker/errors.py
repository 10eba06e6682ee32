"""The one family of errors that baking and serving raise.

    BakeryError                     the root; every leaf has a machine code
      ConfigError (ValueError)      a field is unknown, missing, out of range or contradictory
      InvalidInputError (ValueError)  well formed but impossible: a stage out of order, a missing prompt
        TooLargeError               more bytes than the service takes
      NotFoundError (LookupError)   no repo, prompt, target, bake, checkpoint or model of that name
      ConflictError                 the name is taken by something else, or it is in use
      AdapterError (ValueError)     adapter files do not fit: base model, rank, tensors, values
      StageError (RuntimeError)     a stage of a bake failed; the message is stored in the job's status
        StimError                   questions could not be generated
        RolloutError                an answer could not be generated
        CollateError                a target has no trajectories to train on
        MergeConflictError          versions answer the same questions in different ways
        TrainingError               the training process failed
        TrainerLostError            the training process died without reporting; a new one resumes from the saved state
        NeedsRoomError              the training does not fit beside the engine, but would while the engine sleeps
        DiskError                   a file can't be read or written: see `disk_error`
      EngineError (RuntimeError)    the engine can't answer now but may later: it is starting, full, asleep or dead
      NotLentError (RuntimeError)   a training can't use the engine's weights; it loads its own copy instead

`gateway/errors.py` adds the gateway's leaves. Nothing here knows HTTP: `gateway/http/errors.py` has the statuses.
"""

import errno
from typing import Any


class BakeryError(Exception):
    """The message says what happened, with the value, and what to do; users see it unchanged."""

    code: str = "INTERNAL_ERROR"
    """Set by each class; an error that another process raised keeps that one's code."""

    def __init__(self, message: str, *, detail: list[dict[str, Any]] | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        if code is not None:
            self.code = code
        self.detail = detail
        """One entry per mistake, each with `loc` (the path to the field), `msg` and `type`."""


class ConfigError(BakeryError, ValueError):
    code = "VALIDATION_ERROR"


class InvalidInputError(BakeryError, ValueError):
    code = "INVALID_INPUT"


class TooLargeError(InvalidInputError):
    code = "BODY_TOO_LARGE"


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


class MergeConflictError(StageError):
    code = "MERGE_CONFLICT"


class TrainingError(StageError):
    code = "TRAINING_FAILED"


class TrainerLostError(StageError):
    code = "TRAINER_LOST"


class NeedsRoomError(StageError):
    code = "NEEDS_ROOM"


class DiskError(StageError):
    code = "DISK_ERROR"


def disk_error(error: OSError) -> DiskError:
    """The error to show for an `OSError` that nothing handled."""
    is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    advice = "free some space" if is_full else "fix the cause"
    return DiskError(f"disk error ({error.strerror or error}): {advice}, then run it again")


class EngineError(BakeryError, RuntimeError):
    code = "UNAVAILABLE"


class NotLentError(BakeryError, RuntimeError):
    code = "NOT_LENT"
