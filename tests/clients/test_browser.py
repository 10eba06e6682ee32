"""A page of another origin calls the service from a real browser."""

import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from html import unescape
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.clients.conftest import PAGE_ORIGIN
from tests.gateway.engines import MODEL_NAME
from tests.service import RunningGateway

BROWSER_SECONDS = 120
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SCRIPT = """
const [url, key, model] = CONFIG, report = {};
const send = (path, body, token = key) => fetch(url + path, {
  method: body ? "POST" : "GET", body: body && JSON.stringify(body),
  headers: {"Authorization": `Bearer ${token}`, "Content-Type": "application/json"},
});
async function ask() {
  const models = await send("/v1/models");
  report.models = (await models.json()).data.map((model) => model.id);
  report.id = models.headers.get("x-request-id");
  const chat = {model, messages: [{role: "user", content: "Hi"}], max_tokens: 4, stream: true};
  const stream = await send("/v1/chat/completions", chat);
  const decoder = new TextDecoder();
  report.stream = "";
  for (let reader = stream.body.getReader(), part = {}; !part.done;) {
    part = await reader.read();
    report.stream += decoder.decode(part.value);
  }
  const refused = await send("/v1/models", null, "wrong");
  report.refused = [refused.status, (await refused.json()).error.type];
  const late = await send("/v1/chat/completions", {...chat, stream: false, max_tokens: -1});
  report.invalid = [late.status, late.headers.get("x-request-id").length];
}
ask().catch((error) => report.failed = String(error)).then(
  () => document.getElementById("report").textContent = JSON.stringify(report));
"""


@pytest.fixture
def page_folder(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    """A folder, and the port on which a server shows it."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield tmp_path, server.server_port
        server.shutdown()
        thread.join()


def report_of(page_folder: tuple[Path, int], gateway: RunningGateway, origin: str) -> dict[str, Any]:
    """What the script reports when a browser opens its page under this origin."""
    browser = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if browser is None:
        pytest.skip("no Chromium is installed: CORS is tested by its headers only (tests/gateway/http/test_cors.py)")
    folder, port = page_folder
    script = SCRIPT.replace("CONFIG", json.dumps([gateway.url, gateway.key, MODEL_NAME]))
    (folder / "index.html").write_text(f'<pre id="report"></pre><script>{script}</script>')
    options = [
        "--headless",
        "--no-sandbox",  # Chromium refuses to start as root with it
        "--disable-gpu",
        f"--user-data-dir={folder / 'profile'}",
        f"--host-resolver-rules=MAP {origin.removeprefix('http://')} 127.0.0.1:{port}",
        "--virtual-time-budget=100000",  # waits for requests under way, but not for real time
        "--dump-dom",
    ]
    done = subprocess.run([browser, *options, origin], capture_output=True, text=True, timeout=BROWSER_SECONDS)
    shown = re.search(r'<pre id="report">(.*)</pre>', done.stdout, re.DOTALL)
    assert shown is not None and shown[1], done.stdout + done.stderr[-2000:]
    report: dict[str, Any] = json.loads(unescape(shown[1]))
    return report


def test_a_page_of_an_allowed_origin_reads_answers_streams_and_errors(
    page_folder: tuple[Path, int], gateway: RunningGateway
) -> None:
    report = report_of(page_folder, gateway, PAGE_ORIGIN)
    assert "failed" not in report, report
    assert MODEL_NAME in report["models"]
    assert len(report["id"]) == 32
    assert report["stream"].startswith("data: {") and report["stream"].endswith("data: [DONE]\n\n")
    assert report["refused"] == [401, "AuthenticationError"]
    assert report["invalid"] == [400, 32]


def test_a_page_of_another_origin_reads_nothing(page_folder: tuple[Path, int], gateway: RunningGateway) -> None:
    assert report_of(page_folder, gateway, "http://stranger.test") == {"failed": "TypeError: Failed to fetch"}
