"""`bread bisect`: since which version an answer is as it is."""

from __future__ import annotations

import os
import subprocess
from itertools import pairwise
from typing import Any

import click

from gateway.cli.failures import CliError, Exit
from gateway.cli.history.commits import styled_id
from gateway.cli.options import json_option, pass_session, repo_option, version_argument
from gateway.cli.output import note, show_json, show_table
from gateway.cli.progress import post_with_progress
from gateway.cli.session import Session, path_of
from gateway.cli.text import one_line

GOOD, BAD, SKIPPED = "good", "bad", "skipped"
SKIP_CODE, MOST_BAD_CODE = 125, 127
"""Exit codes of a command as git reads them: 0 good, 125 skip, up to 127 bad, above: stop."""
COLORS = {GOOD: "green", BAD: "red"}


@click.command()
@version_argument("bad")
@version_argument("good")
@repo_option
@click.option("--ask", "question", required=True, metavar="QUESTION", help="What all of them are asked.")
@click.option("--expect", metavar="TEXT", help="Compare how likely an answer begins with this.")
@click.option("--pattern", metavar="REGEX", help="Compare how many answers contain this.")
@click.option(
    "--run",
    "command",
    metavar="CMD",
    help="A shell command that gets an answer on standard input: 0 is good, 125 skips, others up to 127 are bad.",
)
@click.option("--samples", type=click.IntRange(1, 16), default=1, metavar="N", help="Answers of each version [1].")
@json_option
@pass_session
def bisect(
    session: Session,
    /,
    bad: str,
    good: str,
    repo: str | None,
    question: str,
    expect: str | None,
    pattern: str | None,
    command: str | None,
    samples: int,
    as_json: bool,
) -> None:
    """Find the versions that changed an answer.

    All versions from GOOD (or `base`) to BAD answer QUESTION at once, and every change is shown, not only the first.
    """
    if sum(each is not None for each in (expect, pattern, command)) != 1:
        raise click.UsageError("Give one of --expect, --pattern and --run")
    repo, (rev_bad, rev_good) = session.versions([bad, good], repo)
    body: dict[str, Any] = {
        "bad": rev_bad,
        "good": rev_good,
        "question": question,
        "expect": expect,
        "pattern": pattern,
    }
    body["samples"] = samples
    result = post_with_progress(session.client, path_of(repo, "bisect"), body, "asking every version")
    if command is not None:
        result = judged(result, command, repo, question)
    if as_json:
        show_json(result)
    else:
        _show(result)


def judged(result: dict[str, Any], command: str, repo: str, question: str) -> dict[str, Any]:
    """The result with states by the command's exit codes: bad if most of a version's answers are.

    The command finds the answer on its standard input, and BREAD_MODEL, BREAD_COMMIT and BREAD_QUESTION in its
    environment. Raises: CliError if it asks to stop.
    """
    steps = []
    for step in result["steps"]:
        model = step["model"] or f"{repo}/{step['commit']}"
        environment = {**os.environ, "BREAD_MODEL": model, "BREAD_COMMIT": step["commit"], "BREAD_QUESTION": question}
        states = [_state(command, answer, environment) for answer in step["answers"]]
        known = [state for state in states if state != SKIPPED]
        share = sum(state == GOOD for state in known) / len(known) if known else None
        state = None if share is None else GOOD if share > 0.5 else BAD
        steps.append({**step, "score": share, "state": state})
    decided = [step for step in steps if step["state"] is not None]
    flips = [now["commit"] for before, now in pairwise(decided) if before["state"] != now["state"]]
    is_bad = bool(decided) and decided[-1]["state"] == BAD
    return {**result, "steps": steps, "flips": flips, "first_bad": flips[-1] if flips and is_bad else None}


def _state(command: str, answer: str, environment: dict[str, str]) -> str:
    code = subprocess.run(
        command, shell=True, input=answer, text=True, env=environment, stdout=subprocess.DEVNULL
    ).returncode
    if code < 0 or code > MOST_BAD_CODE:
        raise CliError(f"the command ended with {code}, which stops the search: {one_line(command)}", Exit.DIFFERS)
    return GOOD if code == 0 else SKIPPED if code == SKIP_CODE else BAD


def _show(result: dict[str, Any]) -> None:
    for warning in result["warnings"]:
        note(f"note: {one_line(warning)}")
    rows = []
    for step in result["steps"]:
        name = "base" if step["commit"] == "base" else styled_id(step["commit"])
        state = click.style(step["state"] or "skipped", fg=COLORS.get(step["state"]), dim=step["state"] is None)
        score = "" if step["score"] is None else f"{step['score']:.2f}"
        flip = click.style("<- changed", bold=True) if step["commit"] in result["flips"] else ""
        rows.append((name, state, score, one_line(step["message"], 40), flip))
    show_table((), rows, numbers=(2,), cuts=3)
    first = next((step for step in result["steps"] if step["commit"] == result["first_bad"]), None)
    if first is None:
        click.echo("\nNo version between them changed the answer for good.")
    else:
        click.echo(f"\n{styled_id(first['commit'])} is the first bad version: {one_line(first['message'])}")
