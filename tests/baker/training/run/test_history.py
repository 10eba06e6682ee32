from baker.status import KLChange
from baker.training.events import Drifted, Evaluated
from baker.training.run.history import History
from baker.training.state import Standing


def test_the_summary_follows_steps_evaluations_and_drifts() -> None:
    history = History()
    history.add_evaluation(Evaluated(0, 2.0, {"a": 2.0}, 0.25, {"a": 0.25}))
    history.add_drift(Drifted(0, 0.0))
    for loss in (3.0, 1.0, 2.0):
        history.add_step(loss)
    history.add_evaluation(Evaluated(3, 0.5, {"a": 0.5}, 0.75, {"a": 0.75}))
    history.add_drift(Drifted(3, 0.1))
    assert (history.step, history.losses) == (3, [3.0, 1.0, 2.0])
    summary = history.loss
    assert (summary.latest_loss, summary.min_loss, summary.max_loss) == (2.0, 1.0, 3.0)
    assert (summary.eval_kl_before, summary.eval_kl, summary.recovered) == (2.0, 0.5, 0.75)
    assert summary.eval_kl_by_target == {"a": KLChange(2.0, 0.5)}
    assert (summary.drift_before, summary.drift) == (0.0, 0.1)


def test_a_restored_history_continues_and_leaves_the_state_alone() -> None:
    history = History()
    history.add_step(1.0)
    standing = Standing(history.step, 1, history.loss, history.losses, history.evaluations, history.drifts)
    restored = History()
    restored.restore(standing)
    assert restored == history
    restored.add_step(0.5)
    assert restored.losses == [1.0, 0.5] and standing.losses == [1.0]
    assert History().losses == [], "histories share nothing"
