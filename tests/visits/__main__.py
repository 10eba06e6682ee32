"""`make visits`: starts one service with the embedded model, runs each visit against it, and prints a table.

Each visit is a script that drives one published client, in an environment of its own under `.visits/`; clients.toml
has the packages. An environment is built once and again whenever its packages change. Exits with 1 if a step failed.
"""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import tomllib
from pathlib import Path

import msgspec

from tests.service import ROOT, RunningGateway

ENVIRONMENTS = ROOT / ".visits"
CLIENTS: dict[str, dict[str, list[str]]] = tomllib.loads((Path(__file__).parent / "clients.toml").read_text())
VISIT_SECONDS = 1800
"""Longest time for one visit, on a busy machine."""


class Step(msgspec.Struct, frozen=True):
    """One line of the table."""

    visit: str
    name: str
    passed: bool
    seconds: float


class Environment:
    """A folder with one client and nothing else."""

    def __init__(self, visit: str) -> None:
        self.visit = visit
        self.folder = ENVIRONMENTS / visit
        (self.kind, self.packages), *others = CLIENTS[visit].items()
        assert self.kind in ("python", "node") and not others, f"{visit}: one of python and node"

    def build(self) -> None:
        """Installs the packages, unless exactly these are installed already."""
        ready = self.folder / "packages.json"
        if ready.is_file() and json.loads(ready.read_text()) == self.packages:
            return
        print(f"Installing {' '.join(self.packages)} ...", flush=True)
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        if self.kind == "python":
            subprocess.run([sys.executable, "-m", "venv", self.folder], check=True)
            python = str(self.folder / "bin" / "python")
            pip = [python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
            subprocess.run([*pip, *self.packages], check=True)
        else:
            (self.folder / "package.json").write_text('{"private": true, "type": "module"}')
            npm = ["npm", "install", "--silent", "--no-audit", "--no-fund"]
            subprocess.run([*npm, *self.packages], cwd=self.folder, check=True)
        ready.write_text(json.dumps(self.packages))

    def command(self) -> list[str]:
        if self.kind == "python":
            return [str(self.folder / "bin" / "python"), "-m", f"tests.visits.{self.visit}"]
        # Node looks for packages beside the script.
        for script in (f"{self.visit}.mjs", "steps.mjs"):
            shutil.copy(Path(__file__).parent / script, self.folder)
        return ["node", str(self.folder / f"{self.visit}.mjs")]


def run_visit(environment: Environment, gateway: RunningGateway) -> list[Step]:
    """Runs one visit and prints each step as it ends. Its whole output is kept in a log beside its environment."""
    inherited = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "TMPDIR")}
    variables = {**inherited, "BREAD_BASE_URL": gateway.url, "BREAD_API_KEY": gateway.key, "PYTHONPATH": str(ROOT)}
    log = ENVIRONMENTS / f"{environment.visit}.log"
    steps: list[Step] = []
    with (
        log.open("w") as output,
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(
            environment.command(),
            cwd=folder,
            env=variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process,
    ):
        limit = threading.Timer(VISIT_SECONDS, process.kill)
        limit.start()
        assert process.stdout is not None
        for line in process.stdout:
            output.write(line)
            if match := re.match(r"(ok|FAIL) +([\d.]+) s  (.*)", line):
                steps.append(Step(environment.visit, match[3], match[1] == "ok", float(match[2])))
                show(steps[-1])
        limit.cancel()
    if process.returncode != 0 and all(step.passed for step in steps):
        reason = f"the visit ended with code {process.returncode}: see {log.relative_to(ROOT)}"
        steps.append(Step(environment.visit, reason, False, 0.0))
        show(steps[-1])
    return steps


def show(step: Step) -> None:
    print(f"{step.visit:<16} {'ok' if step.passed else 'FAIL':<4} {step.seconds:6.1f} s  {step.name}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make visits ARGS=...", description="Run published clients on a service.")
    parser.add_argument("visit", nargs="*", default=list(CLIENTS), help=f"default: all of {', '.join(CLIENTS)}")
    parser.add_argument("--port", type=int, default=0, help="port of the service; 0: any free port")
    options = parser.parse_args()
    if unknown := sorted(set(options.visit) - set(CLIENTS)):
        parser.error(f"unknown visit {', '.join(unknown)}; there are {', '.join(CLIENTS)}")
    environments = [Environment(visit) for visit in options.visit]
    for environment in environments:
        environment.build()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # otherwise the service would outlive this process
    steps: list[Step] = []
    with tempfile.TemporaryDirectory() as folder:
        gateway = RunningGateway(
            Path(folder), "--port", str(options.port), "--kv-cache-gib", "1", "--tokenizer-info=on"
        )
        try:
            for environment in environments:
                steps += run_visit(environment, gateway)
        finally:
            gateway.stop()
    failed = [step for step in steps if not step.passed]
    print(f"\n{len(environments)} visits, {len(steps)} steps, {len(failed)} failed")
    return 1 if failed or not steps else 0


if __name__ == "__main__":
    sys.exit(main())
