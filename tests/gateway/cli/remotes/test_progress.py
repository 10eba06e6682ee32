"""The progress of a copy."""

from rich.console import Console
from rich.progress import Progress

from gateway.cli.remotes.progress import Bar, Silent, shown


def test_without_a_terminal_nothing_is_shown() -> None:
    with shown("pushing") as report:
        assert isinstance(report, Silent)
        report.plan(3)
        report.bytes_done(5)
        report.commit_done()


def test_the_bar_counts_commits_and_bytes() -> None:
    progress = Progress(console=Console(quiet=True))
    bar = Bar(progress, "pushing")
    bar.plan(3)
    bar.commit_done()
    bar.bytes_done(1_000_000)
    bar.bytes_done(500_000)
    (task,) = progress.tasks
    assert (task.total, task.completed, task.fields["sent"]) == (3, 1, "1.5 MB")
