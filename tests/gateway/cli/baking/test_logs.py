"""`bread logs`."""

import json
from typing import Any

import click
import httpx
import pytest

from gateway.cli.baking.logs import line_of
from tests.gateway.cli.conftest import Bread

STEP = {"iter": 4, "epoch": 0.5, "loss": 0.1234, "lr": 1e-4, "iter_time": 1.5}


def test_a_step_is_one_line() -> None:
    assert click.unstyle(line_of(STEP)) == "step     4  epoch  0.50  loss 0.123  lr 1.0e-04  1.50 s"


def test_an_evaluation_is_one_line() -> None:
    row = {**STEP, "eval_loss": 0.01, "eval_agreement": 0.916, "recovered": 0.928}
    assert click.unstyle(line_of(row)) == "step     4  held-out KL 0.010  recovered 93%  agree 92%"
    assert click.unstyle(line_of({**STEP, "drift": 0.1167})) == "step     4  drift 0.117"


def test_a_failed_bake_is_exit_code_1_after_its_steps(bread_of: Any) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/repo":
            return httpx.Response(200, json={"repos": ["hooli"]})
        if request.url.path.endswith("/metrics"):
            return httpx.Response(200, json=[STEP])
        return httpx.Response(200, json={"status": "failed", "error": "no room", "config": {}})

    bread: Bread = bread_of(answer)
    code, out, err = bread("logs", "hooli/yoda", "-f")
    assert (code, out.count("step")) == (1, 1)
    assert "hooli/yoda failed: no room" in err
    assert json.loads(bread("logs", "hooli/yoda", "--json").out) == [STEP]


@pytest.mark.parametrize("name", ["hooli/none", "none/yoda/x"])
def test_a_bake_that_is_not_there_is_exit_code_4(bread: Bread, name: str) -> None:
    bread("init", "hooli")
    assert bread("logs", name).code == 4
