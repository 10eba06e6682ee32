"""`bread completion`: what a shell needs to complete the command's verbs, options and names."""

import click

LINES = {
    "bash": 'eval "$(bread completion bash)"   # in ~/.bashrc',
    "zsh": 'eval "$(bread completion zsh)"   # in ~/.zshrc',
    "fish": "bread completion fish | source   # in ~/.config/fish/config.fish",
}


OPEN_ENDS = {
    "bash": ("COMPREPLY+=($value)", "COMPREPLY+=($value)\n            [[ $value == */ ]] && compopt -o nospace"),
    "zsh": (
        "compadd -U -V unsorted -a completions",
        "local -a open=(${(M)completions:#*/}) whole=(${completions:#*/})\n"
        "        (( $#open )) && compadd -U -V unsorted -S '' -a open\n"
        "        (( $#whole )) && compadd -U -V unsorted -a whole",
    ),
}
"""Line of click's script, and what replaces it: no space follows `repo/`, since a name does. fish knows that."""


@click.command(epilog="\b\n" + "\n".join(LINES.values()))
@click.argument("shell", type=click.Choice(list(LINES)))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completion for bash, zsh or fish. It completes repos, refs and models too, from the server."""
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None  # click has all three
    source = kind(context.find_root().command, {}, "bread", "_BREAD_COMPLETE").source()
    line, replacement = OPEN_ENDS.get(shell, ("", ""))
    click.echo(source.replace(line, replacement) if line else source)
