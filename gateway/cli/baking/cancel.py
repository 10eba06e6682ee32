"""`bread cancel`: stops what a bake is waiting for or doing."""

import click

from gateway.cli.completion import complete_bake
from gateway.cli.failures import CliError, Exit
from gateway.cli.options import json_option, pass_session, repo_option
from gateway.cli.output import show_json
from gateway.cli.session import Session, path_of

ACTIVE = {"pending", "running"}


@click.command()
@click.argument("name", metavar="BAKE", shell_complete=complete_bake)
@repo_option
@json_option
@pass_session
def cancel(session: Session, name: str, repo: str | None, as_json: bool) -> None:
    """Stop a bake that is queued or in training.

    Its questions, answers and checkpoints stay, and running it again continues from there. The stim and the rollout
    that it waits for stop too.
    """
    bake = session.bake(name, repo)
    client = session.client
    path = path_of(bake.repo, "bakes", bake.rev)
    status = client.get(path)
    stopped = []
    for target in dict.fromkeys(dataset["target"] for dataset in status["config"].get("datasets") or []):
        for stage in ("rollout", "stim"):
            stage_path = path_of(bake.repo, "targets", target, stage)
            if (found := client.find(stage_path)) is not None and found["status"] in ACTIVE:
                client.post(f"{stage_path}/cancel")
                stopped.append(f"{stage} of {target}")
    if status["status"] in ACTIVE:
        try:
            client.post(f"{path}/cancel")
            stopped.append(f"bake {bake.rev}")
        except CliError as error:  # it failed with the stage that it waited for
            if error.status != 409:
                raise
    if not stopped:
        raise CliError(f"{bake.model} is neither queued nor in training: it is {status['status']}", Exit.CONFLICT)
    if as_json:
        show_json(client.get(path))
    else:
        click.echo(f"Stopped: {', '.join(reversed(stopped))}.")
