"""A real gateway in a process of its own, as a user starts it."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import openai
import psutil
from aibread import Bread

ROOT = Path(__file__).parent.parent
START_SECONDS = 600  # on a busy machine; alone it takes 25, and 20 more to make the embedded model


class RunningGateway:
    def __init__(self, folder: Path, *options: str, **environment: str) -> None:
        """Start `python -m gateway` in `folder` and wait until it says that it is ready."""
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("BREAD_", "ANTHROPIC_"))}
        self.folder = folder
        with (folder / "gateway.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "gateway", "--port", "0", *options],
                cwd=folder,
                env={**inherited, "PYTHONPATH": str(ROOT), **environment},
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self._clients = contextlib.ExitStack()
        self._said: list[str] = []
        self._ready = threading.Event()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        if not self._ready.wait(START_SECONDS) or self._process.poll() is not None:
            self.kill()
            raise AssertionError(f"the gateway did not start:\n{self.log()}")
        self.url = re.findall(r"Ready: (\S+)", self.said())[0]
        self.key = (folder / ".bread" / "master.key").read_text().strip()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as said:
            for line in said:
                self._said.append(line)
                if line.strip().startswith("curl"):  # the last line of the greeting
                    self._ready.set()
        self._ready.set()

    def bread(self, key: str | None = None) -> Bread:
        """A client of its own, which refuses what its published response models don't hold; with the master key if
        none is given. Closed with the service."""
        client = Bread(api_key=key or self.key, base_url=self.url, _strict_response_validation=True)
        return self._clients.enter_context(client)

    def openai(self, key: str | None = None) -> openai.OpenAI:
        """As `bread`. It tries nothing twice."""
        client = openai.OpenAI(api_key=key or self.key, base_url=f"{self.url}/v1", max_retries=0)
        return self._clients.enter_context(client)

    def said(self) -> str:
        """What it printed for people."""
        return "".join(self._said)

    def log(self) -> str:
        return self.said() + (self.folder / "gateway.log").read_text()[-5000:]

    def processes(self) -> list[psutil.Process]:
        """It and all that it started."""
        service = psutil.Process(self._process.pid)
        return [service, *service.children(recursive=True)]

    def kill(self) -> None:
        """kill -9 of the service alone: its children must end by themselves."""
        self._process.kill()
        self._process.wait()
        self._listener.join()
        self._clients.close()

    def interrupt(self) -> int:
        """Ctrl-C in its terminal, which reaches all its processes. Returns: the exit code."""
        for process in self.processes():
            process.send_signal(signal.SIGINT)
        return self._ended()

    def stop(self) -> int:
        """SIGTERM. Returns: the exit code."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        return self._ended()

    def _ended(self) -> int:
        code = self._process.wait(timeout=90)
        self._listener.join()
        self._clients.close()
        return code
