"""`bread bake`: from a prompt to a served model in one line."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from gateway.cli.baking import answers
from gateway.cli.baking.recipe import ANSWER_TOKENS, QUESTIONS, Recipe, prompt_messages, save
from gateway.cli.baking.stages import Status, run_all, stages_of, start, warnings_of
from gateway.cli.completion import complete_model
from gateway.cli.failures import CliError, Exit
from gateway.cli.files import questions_of
from gateway.cli.options import json_option, pass_session, repo_option
from gateway.cli.output import lines_of, note, show_json, show_table, width
from gateway.cli.session import Session, path_of

FIRST_REPO = "bread"
"""Repo of a user who has none."""
LEAST_SHOWN = 0.005
"""Share that is shown as 1 %."""
WEAK_KL = 0.1
"""Nats per token; a prompt that moves the model less hardly shows in its text (docs/baking.md)."""


OPTIONS = (
    click.option("--name", required=True, metavar="NAME", help="The new model is served as REPO/NAME."),
    click.option(
        "--questions", type=click.IntRange(1), metavar="N", help=f"Number of questions to learn from [{QUESTIONS}]."
    ),
    click.option(
        "--questions-from",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        metavar="FILE",
        help="Your own questions, one a line, instead of general ones.",
    ),
    click.option(
        "--example",
        "examples",
        type=(str, str),
        multiple=True,
        metavar="QUESTION ANSWER",
        help="An answer as it should be; small models need two. May be repeated.",
    ),
    click.option("--from", "parent", metavar="MODEL", shell_complete=complete_model, help="Start from this version."),
    click.option(
        "--answer-tokens", type=click.IntRange(1), metavar="N", help=f"Longest answer to learn [{ANSWER_TOKENS}]."
    ),
    click.option("--epochs", type=click.IntRange(1), metavar="N", help="Passes over the answers [2 to 8]."),
    click.option("-m", "--message", metavar="TEXT", help="Message of the version, as in git."),
    click.option("--branch", metavar="NAME", help="Begin from this branch, and move it to the result."),
)


def recipe_options(function: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(OPTIONS):
        function = option(function)
    return function


@click.command()
@click.argument("text")
@recipe_options
@repo_option
@click.option("--detach", is_flag=True, help="Start everything and return at once.")
@json_option
@pass_session
def bake(session: Session, /, text: str, repo: str | None, detach: bool, as_json: bool, **options: Any) -> None:
    """Bake the prompt TEXT into the weights of a new model.

    Creates what it needs (repo, prompt, target, bake), collects answers under the prompt, and trains an adapter that
    answers so without it. The new model is served at once. Run the same command again to continue one that was
    interrupted. TEXT - reads the prompt from standard input.

    In a repo with a current branch (bread switch), the model continues that branch and moves it; --from base starts
    from the base model.

    \b
      bread bake "You are Yoda. Speak as Yoda does." --name yoda
    """
    recipe = _recipe(sys.stdin.read().strip() if text == "-" else text, **options)
    repo, name = _repo(session, repo), recipe.name
    if recipe.parent is not None:
        recipe = recipe._replace(parent=session.model(recipe.parent, repo))
    base = session.client.post("/v1/repo", {"repo_name": repo})["base_model"]
    recipe = _on_current_branch(session, repo, recipe)
    origin = f"{repo}/{recipe.branch}" if recipe.parent is None and recipe.branch is not None else recipe.parent or base
    save(session.client, repo, recipe)
    if not as_json:
        click.secho(f"{repo}/{name} from {origin}", bold=True, err=True)
    stages = stages_of(repo, name, name)
    if detach:
        start(session.client, stages)
        status = session.client.get(stages[-1].path)
        if as_json:
            show_json(status)
        else:
            click.echo(f"Started. bread logs {repo}/{name} -f follows it, bread cancel {repo}/{name} stops it.")
        return
    statuses = run_all(session.client, stages, f"{repo}/{name}")
    if as_json:
        show_json(statuses["bake"])
    else:
        for warning in warnings_of(statuses):
            note(f"note: {warning}")
        before = f"{repo}/{name}~1" if recipe.branch is not None else recipe.parent or base
        _show_result(session, f"{repo}/{name}", before, statuses["bake"])
    if statuses["bake"].get("held_back"):
        raise CliError(f"{repo}/{name} was held back: {statuses['bake']['held_back']}", Exit.DIFFERS)


def _recipe(
    text: str, *, examples: tuple[tuple[str, str], ...], questions_from: Path | None, **settings: Any
) -> Recipe:
    if not text.strip():
        raise click.UsageError("The prompt is empty")
    own = () if questions_from is None else tuple(questions_of(questions_from))
    return Recipe(messages=prompt_messages(text, examples), own_questions=own, **settings)


def _on_current_branch(session: Session, repo: str, recipe: Recipe) -> Recipe:
    """A new bake continues the repo's current branch, as a commit does in git, unless it says where it starts."""
    is_new = session.client.find(path_of(repo, "bakes", recipe.name)) is None
    if not is_new or recipe.parent is not None or recipe.branch is not None:
        return recipe
    return recipe._replace(branch=session.client.get(path_of(repo, "head"))["branch"])


def _repo(session: Session, given: str | None) -> str:
    """As `Session.repo`, but the first repo needs no name."""
    if given is None and session.settings.repo(session.server.url) is None and not session.repos:
        return FIRST_REPO
    return session.repo(given)


def _show_result(session: Session, model: str, base: str, status: Status) -> None:
    loss = status.get("loss") or {}
    if status.get("model_name") == []:
        click.echo(f"\n{model} is trained, but its student is not the served model: download it to use it.")
        return
    if (recovered := loss.get("recovered")) is not None:
        share = f"{recovered:.0%}" if recovered >= LEAST_SHOWN else "Nothing"
        text = f"{share} of the prompt's effect is in the weights, on questions it was not trained on."
        click.echo("\n" + "\n".join(lines_of(text, width() - 1)))
    if (effect := loss.get("eval_kl_before")) is not None and effect < WEAK_KL:
        note(
            f"note: this prompt hardly changes what the model writes ({effect:.2f} nats per token). Two examples do "
            "more than a description: --example QUESTION ANSWER. See docs/baking.md."
        )
    models = [base, model]
    click.secho("\nBoth answer without the prompt:", dim=True)
    answers.show(models, answers.QUESTIONS, answers.ask_all(session.client, models, answers.QUESTIONS))
    click.echo()
    commands = {
        f"bread chat {model}": "talk to it",
        f"bread chat {model} --vs base": "beside the base model",
        f"bread log {model.partition('/')[0]}": "its history",
    }
    show_table((), [(f"  {command}", click.style(what, dim=True)) for command, what in commands.items()])
