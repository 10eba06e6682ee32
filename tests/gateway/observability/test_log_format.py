"""Log lines as text and as JSON."""

import json
import logging

from gateway.observability.log_format import JsonFormatter, TextFormatter


def record(**fields: object) -> logging.LogRecord:
    created = logging.LogRecord("gateway.request_log", logging.INFO, "", 0, "request", None, None)
    if fields:
        created.fields = fields
    return created


def test_fields_are_pairs_and_quoted_if_they_are_ambiguous() -> None:
    line = TextFormatter().format(record(id="a-1", ttft_ms=None, model='two words="x"\nINFO', tokens=0))
    assert line.endswith(r'INFO gateway.request_log: request id=a-1 model="two words=\"x\"\nINFO" tokens=0')
    assert TextFormatter().format(record()).endswith("gateway.request_log: request")


def test_a_json_line_is_an_object_that_contains_the_fields() -> None:
    line = json.loads(JsonFormatter().format(record(id="a-1", ttft_ms=None)))
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "info",
        "logger": "gateway.request_log",
        "message": "request",
        "id": "a-1",
        "ttft_ms": None,
    }


def test_a_json_line_has_the_error_too() -> None:
    try:
        raise ValueError("wrong")
    except ValueError as error:
        failed = record()
        failed.exc_info = (ValueError, error, error.__traceback__)
    assert JsonFormatter().format(failed).count("\n") == 0
    assert "ValueError: wrong" in json.loads(JsonFormatter().format(failed))["error"]
