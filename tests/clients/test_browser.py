"""A page of another origin calls the service from a real browser."""

import json
import queue
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
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
  () => fetch("/report", {method: "POST", body: JSON.stringify(report)}));
"""


class Page:
    """A page with the script, on a server of its own, which keeps what the script reports."""

    def __init__(self, gateway: RunningGateway) -> None:
        script = SCRIPT.replace("CONFIG", json.dumps([gateway.url, gateway.key, MODEL_NAME]))
        content = f"<!doctype html><script>{script}</script>".encode()
        reports: queue.Queue[Any] = queue.Queue()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.answer(content)

            def do_POST(self) -> None:
                reports.put(json.loads(self.rfile.read(int(self.headers["content-length"]))))
                self.answer(b"")

            def answer(self, body: bytes) -> None:
                self.send_response(200)
                self.send_header("content-type", "text/html")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.reports = reports
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)


@pytest.fixture
def page(gateway: RunningGateway) -> Iterator[Page]:
    page = Page(gateway)
    with page.server:
        thread = threading.Thread(target=page.server.serve_forever, daemon=True)
        thread.start()
        yield page
        page.server.shutdown()
        thread.join()


def opened_in_a_browser(page: Page, origin: str, profile: Path) -> Any:
    """What the script reports when a browser opens its page under this origin."""
    browser = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if browser is None:
        pytest.skip("no Chromium is installed: CORS is tested by its headers only (tests/gateway/http/test_cors.py)")
    options = [
        "--headless",
        "--no-sandbox",  # Chromium refuses to start as root with it
        "--disable-gpu",
        "--remote-debugging-port=0",  # without it or --dump-dom a headless Chromium ends at once
        f"--user-data-dir={profile}",
        f"--host-resolver-rules=MAP {origin.removeprefix('http://')} 127.0.0.1:{page.server.server_port}",
    ]
    with (profile.parent / "browser.log").open("w+") as log:
        process = subprocess.Popen([browser, *options, origin], stdout=log, stderr=log)
        try:
            return page.reports.get(timeout=BROWSER_SECONDS)
        except queue.Empty:
            log.seek(0)
            raise AssertionError(f"the page reported nothing:\n{log.read()[-2000:]}") from None
        finally:
            process.terminate()
            process.wait()


def test_a_page_of_an_allowed_origin_reads_answers_streams_and_errors(page: Page, tmp_path: Path) -> None:
    report = opened_in_a_browser(page, PAGE_ORIGIN, tmp_path / "profile")
    assert "failed" not in report, report
    assert MODEL_NAME in report["models"]
    assert len(report["id"]) == 32
    assert report["stream"].startswith("data: {") and report["stream"].endswith("data: [DONE]\n\n")
    assert report["refused"] == [401, "AuthenticationError"]
    assert report["invalid"] == [400, 32]


def test_a_page_of_another_origin_reads_nothing(page: Page, tmp_path: Path) -> None:
    report = opened_in_a_browser(page, "http://stranger.test", tmp_path / "profile")
    assert report == {"failed": "TypeError: Failed to fetch"}
