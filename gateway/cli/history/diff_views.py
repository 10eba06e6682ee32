"""How the parts of a diff look. Answers and questions come from models and users: all of it is made harmless."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from gateway.cli.output import columns_of, cut, show_paragraph, show_table, width
from gateway.cli.text import harmless, one_line

BAR = 20
"""Characters of the longest bar."""
TOKENS_SHOWN = 10
LEAST_QUESTION, MOST_QUESTION = 16, 72
"""Columns of a question above its answers."""


def show_stat(groups: Sequence[dict[str, Any]]) -> None:
    """One line for each target, probe and the neutral questions."""
    largest = max((group["kl"] for group in groups), default=0.0)
    rows = []
    for group in groups:
        interval = ""
        if group["kl_low"] is not None and group["kl_high"] is not None:
            interval = f"[{group['kl_low']:.3f}, {group['kl_high']:.3f}]"
        bar = "+" * round(BAR * group["kl"] / largest) if largest > 0 else ""
        rows.append(
            (
                group_name(group),
                f"KL {group['kl']:.3f}",
                click.style(interval, dim=True),
                f"agree {group['agreement']:.1%}",
                click.style(bar, fg="red"),
            )
        )
    show_table((), rows, numbers=(1, 3))


def group_name(group: dict[str, Any]) -> str:
    name = one_line(group.get("name") or group.get("group") or "", 40)
    count = f" ({group['questions']})" if "questions" in group else ""
    match group["kind"]:
        case "neutral":
            return f"neutral{count}"
        case "question":
            return f"questions{count}"
    return f"{group['kind']} {name}{count}"


def show_weights_line(weights: dict[str, Any]) -> None:
    parts = [f"{weights['modules']} modules"]
    if (relative := weights["relative_norm"]) is not None:
        parts.append(f"|d|/|W| {relative:.2%}")
    parts.append(f"rank {weights['rank_a']} -> {weights['rank_b']}")
    if (cosine := weights["cosine"]) is not None:
        parts.append(f"cosine {cosine:.2f}")
    click.echo(f"weights  {', '.join(parts)}")


def show_weights(weights: dict[str, Any]) -> None:
    show_weights_line(weights)
    rows = []
    for module in weights["largest"]:
        relative = "" if module["relative_norm"] is None else f"{module['relative_norm']:.2%}"
        rows.append((one_line(module["module"]), f"{module['norm']:.3f}", relative))
    if rows:
        show_table(("MODULE", "|d|", "|d|/|W|"), rows, numbers=(1, 2), cuts=0)


def show_patch(hunks: Sequence[dict[str, Any]]) -> None:
    """The questions that changed most: what both answers share, then where they part."""
    for number, hunk in enumerate(hunks):
        if number:
            click.echo()
        parting = hunk["parting"]
        where = f"token {parting['token']}, KL {parting['kl']:.2f}" if parting is not None else f"KL {hunk['kl']:.3f}"
        room = width() - columns_of(f'@@ {group_name(hunk)} ""  {where} @@')
        question = cut(one_line(hunk["question"]), max(LEAST_QUESTION, min(room, MOST_QUESTION)))
        click.secho(f'@@ {group_name(hunk)} "{question}"  {where} @@', fg="cyan")
        if parting is None:
            show_paragraph("  ", [(one_line(hunk["answer_a"]), None)])
        else:
            _show_answer("-", hunk["answer_a"], parting["shared"], "red")
            _show_answer("+", hunk["answer_b"], parting["shared"], "green")
    if not hunks:
        click.echo("No answer differs.")


def _show_answer(sign: str, answer: str, shared: str, color: str) -> None:
    begin = one_line(shared) if answer.startswith(shared) else ""
    line = one_line(answer)
    rest = line[len(begin) :] if line.startswith(begin) else line
    begin = begin if line.startswith(begin) else ""
    show_paragraph(f"{click.style(sign, fg=color)} ", [(begin, None), (rest, color)])


def show_tokens(changes: dict[str, Any]) -> None:
    """Both lists side by side; the number is how much more often the second version expects the token."""
    more = changes["likelier"][:TOKENS_SHOWN]
    less = changes["less_likely"][:TOKENS_SHOWN]
    rows = []
    for number in range(max(len(more), len(less))):
        cells: list[str] = []
        for changed, color in ((more, "green"), (less, "red")):
            if number < len(changed):
                token = changed[number]
                cells += [click.style(quoted(token["text"]), fg=color), f"{token['change']:+.2f}"]
            else:
                cells += ["", ""]
        rows.append(cells)
    click.echo(f"Over {changes['positions']:,} positions, expected more and less often:")
    show_table((), rows, numbers=(1, 3), cuts=0)


def quoted(token: str) -> str:
    """A token's text in quotes, with its spaces and line ends visible."""
    return '"' + harmless(token).replace("\n", "\\n") + '"'


def show_recipe(text: str) -> None:
    for line in harmless(text).splitlines():
        color = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1])
        click.secho(line, fg=color, bold=line.startswith(("+++", "---")))
    if not text.strip():
        click.echo("The recipes are the same.")
