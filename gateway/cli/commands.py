"""The verbs of `bread`, where each is defined, and how the command starts and ends.

A verb's file is imported when the verb runs, so `bread --version` and completion start fast.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path

import click

from gateway import __version__
from gateway.cli.failures import CliError, Exit
from gateway.cli.output import wrapped
from gateway.cli.session import Session
from gateway.cli.text import harmless

SECTIONS: dict[str, dict[str, str]] = {
    "Bake and talk": {
        "bake": "gateway.cli.baking.bake",
        "chat": "gateway.cli.baking.chat",
        "run": "gateway.cli.baking.run",
        "stim": "gateway.cli.baking.run",
        "rollout": "gateway.cli.baking.run",
        "logs": "gateway.cli.baking.logs",
        "cancel": "gateway.cli.baking.cancel",
    },
    "History": {
        "log": "gateway.cli.history.log",
        "show": "gateway.cli.history.show",
        "tree": "gateway.cli.history.tree",
        "diff": "gateway.cli.history.diff",
        "blame": "gateway.cli.history.blame",
        "bisect": "gateway.cli.history.bisect",
        "probe": "gateway.cli.history.probe",
        "branch": "gateway.cli.history.branch",
        "switch": "gateway.cli.history.branch",
        "tag": "gateway.cli.history.tag",
        "promote": "gateway.cli.history.pointer",
        "rollback": "gateway.cli.history.pointer",
        "undo": "gateway.cli.history.operations",
        "redo": "gateway.cli.history.operations",
        "op": "gateway.cli.history.operations",
        "gc": "gateway.cli.history.gc",
    },
    "Merging": {
        "merge": "gateway.cli.merging.merge",
        "cherry-pick": "gateway.cli.merging.merge",
        "revert": "gateway.cli.merging.merge",
        "rebase": "gateway.cli.merging.rebase",
        "cascade": "gateway.cli.merging.rebase",
    },
    "Other servers": {
        "remote": "gateway.cli.remotes.remote",
        "clone": "gateway.cli.remotes.clone",
        "fetch": "gateway.cli.remotes.fetch",
        "pull": "gateway.cli.remotes.fetch",
        "push": "gateway.cli.remotes.push",
    },
    "The server": {
        "login": "gateway.cli.service.login",
        "init": "gateway.cli.service.init",
        "status": "gateway.cli.service.status",
        "models": "gateway.cli.service.models",
        "completion": "gateway.cli.service.shell",
    },
}
"""Section of the help -> verb -> module with the command of that name."""

MODULES = {verb: module for verbs in SECTIONS.values() for verb, module in verbs.items()}
MOST_COLUMNS_OF_HELP = 100


class Verbs(click.Group):
    """Commands that are imported when they are needed, listed by section."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in MODULES:
            return None
        command: click.Command = getattr(import_module(MODULES[cmd_name]), cmd_name.replace("-", "_"))
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in MODULES:
            from difflib import get_close_matches

            nearest = get_close_matches(args[0], MODULES, 2)
            hint = f"did you mean {' or '.join(nearest)}?" if nearest else "bread --help lists the verbs"
            raise CliError(f"there is no verb {args[0]!r}: {hint}", Exit.USAGE)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for section, verbs in SECTIONS.items():
            rows = []
            for verb in verbs:
                command = self.get_command(ctx, verb)
                if command is not None:
                    rows.append((verb, command.get_short_help_str(MOST_COLUMNS_OF_HELP)))
            with formatter.section(section):
                formatter.write_dl(rows)


@click.command(
    cls=Verbs,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": MOST_COLUMNS_OF_HELP},
    epilog="Exit codes: 0 done, 1 differs or refused, 2 wrong usage, 3 conflict, 4 not found, 5 no answer from the "
    "server. The server and key come from the options, BREAD_BASE_URL and BREAD_API_KEY in the environment or .env, "
    "or bread login.",
)
@click.version_option(__version__, "-V", "--version", prog_name="bread")
@click.option("--base-url", metavar="URL", help="The gateway [BREAD_BASE_URL].")
@click.option("--user", metavar="USER", help="Act for this user, with the master key.")
@click.pass_context
def bread(context: click.Context, base_url: str | None, user: str | None) -> None:
    """Bake prompts into a model's weights, and keep their history as git keeps code's.

    A version is named REPO/REF: a bake, branch or tag, REF/STEP, an id of 7 or more digits, and each with ~1, ^2 or
    @{3} behind it. Without REPO/ it is in the current repo (bread switch).
    """
    session = context.ensure_object(Session)
    session.url, session.user = base_url, user


def main() -> None:
    """Run `bread` with the process's arguments, and end the process."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str], session: Session | None = None, environment: Mapping[str, str] | None = None) -> int:
    """Run one command. Returns: the exit code."""
    environment = os.environ if environment is None else environment
    _open_closed_streams()
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # odd bytes must not end the command
    session = session or Session(environment)
    is_plain = bool(environment.get("NO_COLOR")) or environment.get("TERM") == "dumb"
    try:
        code = bread.main(
            list(arguments),
            prog_name="bread",
            standalone_mode=False,
            obj=session,
            color=False if is_plain else None,
        )
        return code if isinstance(code, int) else Exit.OK
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx is not None else "bread"
        message = error.format_message().rstrip(".?").replace(". ", ": ")
        return _fail(f"{message}: see `{command} --help`", Exit.USAGE, is_plain)
    except CliError as error:
        return _fail(error.message, error.code, is_plain)
    except (click.Abort, KeyboardInterrupt):
        return Exit.INTERRUPTED
    except BrokenPipeError:  # the reader left, as `| head` does
        _flush_nothing_at_exit()
        return Exit.DIFFERS
    except OSError as error:  # a full disk, behind standard output or a file
        _flush_nothing_at_exit()
        where = f" {error.filename!r}" if error.filename else ""
        return _fail(f"the system refuses to read or write{where}: {error.strerror or error}", Exit.DIFFERS, is_plain)
    finally:
        session.close()


def _open_closed_streams() -> None:
    """Python has None for a stream that the shell closed, as `>&-` does."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115 - until the process ends


def _flush_nothing_at_exit() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(message: str, code: int, is_plain: bool) -> int:
    label, _, rest = wrapped(f"error: {harmless(message)}").partition(" ")
    click.echo(f"{click.style(label, fg='red')} {rest}", err=True, color=False if is_plain else None)
    return code
