"""Which rows each optimizer step of a round trains on, and how many steps there are."""

from collections.abc import Iterator, Sequence

from baker.config.bake import BakeConfig, epochs_for
from baker.training.data.batches import plan_epoch
from baker.training.spec import BEFORE_ROUNDS, Round
from baker.training.state import Standing


class StepPlan:
    def __init__(self, lengths: Sequence[int], config: BakeConfig, part: Round = BEFORE_ROUNDS) -> None:
        """Args:
        lengths: tokens of each row, context and response.
        part: the round that the rows belong to.
        """
        self._lengths, self._config, self._round = lengths, config, part
        on_policy = config.data.on_policy
        self.epochs = on_policy.epochs if part.number else config.epochs or epochs_for(len(lengths))
        """Number of passes over the rows in this round."""
        self.passes_before = 0
        """Number of passes over the data in earlier rounds."""
        self.steps_per_epoch = self._steps_for(len(lengths))
        self.first_step = part.first_step
        """Number of steps done in earlier rounds."""
        self.last_step = self.first_step + self.steps_per_epoch * self.epochs
        """The last step of this round."""
        steps_per_round_epoch = (
            self.steps_per_epoch if part.number else self._steps_for(sum(on_policy.rows(len(lengths))))
        )
        rounds_left = on_policy.rounds - part.number
        self.total_steps = self.last_step + rounds_left * steps_per_round_epoch * on_policy.epochs
        """Number of steps in all rounds, if the student answers every question that it is asked."""

    @property
    def tokens(self) -> int:
        """Number of tokens that this round trains on, in all its passes."""
        return sum(self._lengths) * self.epochs

    @property
    def passes_after(self) -> int:
        """Number of passes over the data once this round is done."""
        return self.passes_before + self.epochs

    @property
    def is_last_round(self) -> bool:
        return self.last_step == self.total_steps

    def restore(self, standing: Standing) -> None:
        """Takes over how many passes an interrupted training, or the round before, has made."""
        if self._round.number:
            is_same_round = standing.round == self._round.number
            self.passes_before = standing.passes - (self.epochs if is_same_round else 0)

    def epoch_at(self, step: int) -> float:
        """Passes over the data after `step` steps, earlier rounds included."""
        return round(self.passes_before + (step - self.first_step) / self.steps_per_epoch, 4)

    def first_pass(self) -> list[int]:
        """The rows' indices in the order of a training's first pass. Does not depend on `passes_before`."""
        return [index for batch in self._batches_of_pass(0) for index in batch]

    def steps_after(self, step: int) -> Iterator[list[list[int]]]:
        """The micro batches (indices of rows) of each step after `step`, up to the end of the epoch."""
        epoch, done = divmod(step - self.first_step, self.steps_per_epoch)
        batches = self._batches_of_pass(self.passes_before + epoch)
        size = self._config.gradient_accumulation_steps
        for begin in range(done * size, len(batches), size):
            yield batches[begin : begin + size]

    def _batches_of_pass(self, number: int) -> list[list[int]]:
        """Args: number: of the pass, from 0, earlier rounds included."""
        return plan_epoch(self._lengths, self._config.micro_batch_size, seed=self._config.seed * 1_000_003 + number)

    def _steps_for(self, rows: int) -> int:
        """Number of steps of one pass over `rows` rows."""
        return -(-rows // (self._config.micro_batch_size * self._config.gradient_accumulation_steps))
