"""`bread chat`: chat_with_model.py with the command's server, key and names."""

import click

from gateway.cli.completion import complete_model
from gateway.cli.failures import CliError, Exit
from gateway.cli.options import pass_session, repo_option
from gateway.cli.session import Session


@click.command()
@click.argument("model", metavar="[MODEL]", required=False, shell_complete=complete_model)
@click.option("--vs", "other", metavar="MODEL", shell_complete=complete_model, help="Let a second model answer too.")
@repo_option
@click.option("--system", metavar="TEXT", help="System prompt.")
@click.option("--temperature", type=click.FloatRange(0), metavar="T", help="0 always takes the likeliest token [0.7].")
@click.option("--max-tokens", type=click.IntRange(1), metavar="N", help="Longest answer [1024, or what fits].")
@pass_session
def chat(
    session: Session,
    /,
    model: str | None,
    other: str | None,
    repo: str | None,
    **options: object,
) -> int:
    """Talk to a model.

    MODEL is a version by any of its names, also with a strength (yoda@0.5), or `base`, the base model.
    Without MODEL, the newest bake answers. Without a terminal, each line of standard input is a question.
    """
    import chat_with_model

    server = session.server
    if server.key is None:
        raise CliError("no key: run `bread login`, or set BREAD_API_KEY (make serve writes it to .env)")
    name = _newest(session) if model is None else session.model(model, repo)
    arguments = ["--base-url", server.url, "--api-key", server.key, "--model", name]
    if other is not None:
        arguments += ["--vs", session.model(other, repo)]
    for option, value in options.items():
        if value is not None:
            arguments += [f"--{option.replace('_', '-')}={value}"]
    return chat_with_model.main(arguments)


def _newest(session: Session) -> str:
    """The bake whose version is the newest, else the base model."""
    models = session.client.get("/v1/models")["data"]
    if not models:
        raise CliError("the server has no model", Exit.NOT_FOUND)
    baked = [model for model in models if model["id"] != model["root"]]
    return str(max(baked, key=lambda model: model["created"])["id"] if baked else models[0]["id"])
