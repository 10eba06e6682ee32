"""How lines of the log are written."""

import json
import logging

from gateway.observability.log_format import JsonFormatter, TextFormatter


def record(**fields: object) -> logging.LogRecord:
    made = logging.LogRecord("gateway.request_log", logging.INFO, "", 0, "request", None, None)
    if fields:
        made.fields = fields
    return made


def test_fields_are_pairs_and_quoted_where_they_would_be_misread() -> None:
    line = TextFormatter().format(record(id="a-1", ttft_ms=None, model='two words="x"\nINFO', tokens=0))
    assert line.endswith(r'INFO gateway.request_log: request id=a-1 model="two words=\"x\"\nINFO" tokens=0')
    assert TextFormatter().format(record()).endswith("gateway.request_log: request")


def test_a_json_line_is_an_object_with_the_fields_in_it() -> None:
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
        made = record()
        made.exc_info = (ValueError, error, error.__traceback__)
    assert JsonFormatter().format(made).count("\n") == 0
    assert "ValueError: wrong" in json.loads(JsonFormatter().format(made))["error"]
