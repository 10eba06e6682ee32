"""The page of the OpenAPI document: complete, and without anything from elsewhere."""

from html import unescape
from html.parser import HTMLParser
from typing import Any

import pytest

from gateway.http.schema_page import render
from tests.gateway.application import Client


class Reader(HTMLParser):
    """Collects a page's ids and references, and checks that each tag is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.ids: list[str] = []
        self.references: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        if tag not in ("meta", "link"):
            self.open.append(tag)
        for name, value in attrs:
            assert not name.startswith("on") and name != "style", name
            if name == "id":
                self.ids.append(value or "")
            if name in ("href", "src"):
                self.references.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    assert reader.open == []
    return reader


@pytest.mark.anyio
async def test_the_page_shows_every_operation_and_object_and_loads_nothing(client: Client) -> None:
    answer = await client.get("/schema")
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    document = (await client.get("/schema/openapi.json")).json()
    page = read(answer.text)
    expected = {
        method + path
        for path, operations in document["paths"].items()
        for method in operations
        if method != "head" or "get" not in operations
    }
    assert sorted(page.ids) == sorted({*expected, *document["components"]["schemas"]})
    assert page.seen.isdisjoint({"script", "img", "iframe", "object", "embed"})
    for reference in page.references:
        assert reference == "data:," or reference.removeprefix("#") in page.ids or reference.startswith("/"), reference
    text = unescape(answer.text)
    for operations in document["paths"].values():
        for operation in operations.values():
            assert operation["summary"] in text


def test_texts_of_the_document_are_escaped() -> None:
    schema: dict[str, Any] = {"type": "string", "enum": ["<b>"], "default": "<i>"}
    operation = {
        "summary": "<u>",
        "description": "<s> and `x`",
        "parameters": [{"name": "<p>", "in": "query", "schema": schema, "description": "<q>"}],
        "responses": {"200": {"description": "<r>", "content": {"<t>": {"schema": {"const": "<v>"}}}}},
    }
    html = render(
        {
            "info": {"title": "<title>", "version": "<1>", "description": "<d>"},
            "paths": {"/<path>": {"get": operation}},
            "components": {"schemas": {"<S>": {"type": "object", "properties": {"<f>": {"type": ["null", "<w>"]}}}}},
        }
    )
    page = read(html)
    assert page.seen.isdisjoint({"b", "i", "u", "s", "q", "r", "t", "v", "d", "f", "w"})
    assert page.ids == ["get/<path>", "<S>"] and "<code>x</code>" in html


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "integer", "minimum": 1, "maximum": 9}, "integer ≥ 1 ≤ 9"),
        ({"type": "array", "items": {"type": "string"}}, "array of string"),
        ({"type": "array", "prefixItems": [{"type": "number"}, {"type": "null"}], "items": False}, "[number, null]"),
        ({"anyOf": [{"$ref": "#/components/schemas/A"}, {"type": "null"}]}, '<a href="#A">A</a> or null'),
        ({"type": "object", "additionalProperties": {"type": "number"}}, "object with values: number"),
        ({}, "any value"),
    ],
)
def test_a_type_is_a_few_words(schema: dict[str, Any], words: str) -> None:
    named = {"type": "object", "properties": {"field": schema}}
    html = render(
        {
            "info": {"title": "", "version": "", "description": ""},
            "paths": {},
            "components": {"schemas": {"A": named}},
        }
    )
    assert f'<span class="soft">{words}</span>' in html
