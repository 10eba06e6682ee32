from pathlib import Path

import pytest

from baker.training.devices.ranks import Ranks
from baker.training.run.run_context import Stopped
from tests.baker.training.run.loops import make_context


class OtherIsStopping(Ranks):
    """A process whose peer was asked to stop."""

    def any(self, condition: bool) -> bool:
        return True


def test_every_process_stops_if_one_of_them_was_asked_to(tmp_path: Path) -> None:
    context, _ = make_context(tmp_path)
    context.check_stopping()
    with pytest.raises(Stopped):
        context._replace(is_stopping=lambda: True).check_stopping()
    with pytest.raises(Stopped):
        context._replace(ranks=OtherIsStopping(1, 2)).check_stopping()
