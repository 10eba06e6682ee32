"""Answers of two models to the same questions, side by side."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import zip_longest

import click

from gateway.cli.client import Client
from gateway.cli.output import MOST_COLUMNS, cut, is_terminal, lines_of, padded
from gateway.cli.text import one_line

QUESTIONS = ("Who are you?", "How can I sleep better?")
ANSWER_TOKENS = 48
TEMPERATURE = 0.7
NARROWEST = 32
"""Columns of a column; with less, the answers stand below each other."""


def ask(client: Client, model: str, question: str, *, seed: int = 0) -> str:
    body = {
        "model": model,
        "messages": [{"role": "user", "content": question}],
        "max_tokens": ANSWER_TOKENS,
        "temperature": TEMPERATURE,
        "seed": seed,
    }
    choice = client.post("/v1/chat/completions", body, timeout=600)["choices"][0]
    text = one_line(choice["message"]["content"] or "")
    return f"{text}…" if choice.get("finish_reason") == "length" else text


def ask_all(client: Client, models: Sequence[str], questions: Sequence[str]) -> list[list[str]]:
    """For each question, each model's answer. All at once: the service batches them."""
    pairs = [(model, question) for question in questions for model in models]
    with ThreadPoolExecutor(len(pairs)) as pool:
        answers = list(pool.map(lambda pair: ask(client, *pair), pairs))
    return [answers[start : start + len(models)] for start in range(0, len(answers), len(models))]


def show(models: Sequence[str], questions: Sequence[str], answers: Sequence[Sequence[str]]) -> None:
    screen = min(shutil.get_terminal_size((100, 24)).columns if is_terminal() else 100, MOST_COLUMNS)
    columns = (screen - 2 - 3 * (len(models) - 1)) // len(models)
    for question, row in zip(questions, answers, strict=True):
        click.echo()
        click.secho(f"  {question}", bold=True)
        if columns < NARROWEST:
            for model, answer in zip(models, row, strict=True):
                click.secho(f"  {cut(model, screen - 2)}", dim=True)
                for line in lines_of(answer, screen - 1, initial_indent="  ", subsequent_indent="  "):
                    click.echo(line)
        else:
            _show_columns(models, row, columns)


def _show_columns(models: Sequence[str], row: Sequence[str], columns: int) -> None:
    titles = [click.style(padded(cut(model, columns), columns), dim=True) for model in models]
    bar = click.style(" │ ", dim=True)
    click.echo("  " + bar.join(titles).rstrip())
    wrapped = [lines_of(answer, columns) or ["(no text)"] for answer in row]
    for cells in zip_longest(*wrapped, fillvalue=""):
        click.echo("  " + bar.join(padded(cell, columns) for cell in cells).rstrip())
