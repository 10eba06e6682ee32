"""`bread completion`: what a shell needs to complete the command's verbs, options and names."""

import click

LINES = {
    "bash": 'eval "$(bread completion bash)"   # in ~/.bashrc',
    "zsh": 'eval "$(bread completion zsh)"   # in ~/.zshrc',
    "fish": "bread completion fish | source   # in ~/.config/fish/config.fish",
}


@click.command(epilog="\b\n" + "\n".join(LINES.values()))
@click.argument("shell", type=click.Choice(list(LINES)))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completion for bash, zsh or fish. It completes repos, refs and models too, from the server."""
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None  # click has all three
    click.echo(kind(context.find_root().command, {}, "bread", "_BREAD_COMPLETE").source())
