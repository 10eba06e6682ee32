"""The OpenAPI document as a page to read at `/schema`: plain HTML, so it works without the internet and scripts."""

from html import escape
from typing import Any

from litestar import Request
from litestar.openapi.plugins import OpenAPIRenderPlugin

from gateway.http import pages

SECTIONS = {
    "openai": "Models: OpenAI's and vLLM's API",
    "anthropic": "Models: Anthropic's API",
    "repos": "Repos",
    "prompts": "Prompts",
    "targets": "Targets",
    "bakes": "Bakes",
    "files": "Files",
    "admin": "Users",
    "health": "Health",
}
"""Tag -> heading, in the page's order. Tags that are not listed follow under their own names."""
METHODS = ("get", "put", "post", "delete", "patch", "head", "options")


class SchemaPage(OpenAPIRenderPlugin):
    def __init__(self) -> None:
        super().__init__(path="/")
        self._page: bytes | None = None

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        """Renders once: the document does not change while the service runs."""
        if self._page is None:
            self._page = render(openapi_schema).encode()
        return self._page


def render(document: dict[str, Any]) -> str:
    """The page of an OpenAPI document."""
    info = document["info"]
    sections: dict[str, list[str]] = {tag: [] for tag in SECTIONS}
    for path, operations in sorted(document["paths"].items()):
        for method in METHODS:
            # A HEAD answers like the GET of its path, without the body.
            if method in operations and not (method == "head" and "get" in operations):
                tag = operations[method].get("tags", ["other"])[0]
                sections.setdefault(tag, []).append(_operation(method, path, operations[method]))
    schemas = document["components"]["schemas"]
    parts = [
        f"<h1>{escape(info['title'])} {escape(info['version'])}</h1>",
        f"<p>{pages.text(info['description'])}</p>",
        '<p class="soft">The same for programs: <a href="/schema/openapi.json">openapi.json</a>. '
        "Requests need a key as <code>Authorization: Bearer KEY</code> or <code>x-api-key: KEY</code>, except where it "
        "says otherwise. "
        '<a href="/">About this service</a></p>',
    ]
    for tag, operations_html in sections.items():
        if operations_html:
            parts += [f"<h2>{escape(SECTIONS.get(tag, tag))}</h2>", *operations_html]
    parts.append("<h2>Objects</h2>")
    parts += [_schema(name, schema) for name, schema in sorted(schemas.items())]
    return pages.page(f"{info['title']}: API", "\n".join(parts))


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    parts = [f"<p>{pages.text(operation.get('description', ''))}</p>"]
    if operation.get("security") == []:
        parts.append('<p class="soft">Needs no key.</p>')
    if parameters := operation.get("parameters"):
        parts += ["<h3>Parameters</h3>", _list(_parameter(parameter) for parameter in parameters)]
    if body := operation.get("requestBody"):
        schema = next(iter(body["content"].values())).get("schema", {})
        parts += ["<h3>Body</h3>", f"<p>{_type(schema)}</p>", _fields(schema)]
    parts += ["<h3>Answers</h3>", _list(_answer(*answer) for answer in sorted(operation["responses"].items()))]
    return (
        f'<details id="{escape(method + path)}"><summary><span class="method">{method.upper()}</span> '
        f'<code class="path">{escape(path)}</code><span class="title">{escape(operation.get("summary", ""))}</span>'
        f"</summary><div>{''.join(parts)}</div></details>"
    )


def _parameter(parameter: dict[str, Any]) -> tuple[str, str]:
    schema = parameter["schema"]
    description = parameter.get("description") or schema.get("description", "")
    place = "" if parameter["in"] == "path" else f", {parameter['in']}"
    return _term(parameter["name"], schema, parameter.get("required", False), place), pages.text(description)


def _answer(status: str, response: dict[str, Any]) -> tuple[str, str]:
    kinds = [
        f"{escape(media)}{': ' + _type(content['schema']) if content.get('schema') else ''}"
        for media, content in response.get("content", {}).items()
    ]
    return f"<code>{escape(status)}</code> {pages.text(response['description'])}", "; ".join(kinds)


def _schema(name: str, schema: dict[str, Any]) -> str:
    description = f"<p>{pages.text(schema['description'])}</p>" if schema.get("description") else ""
    content = _fields(schema) or f"<p>{_type(schema)}</p>"
    return (
        f'<details id="{escape(name)}"><summary><code class="path">{escape(name)}</code></summary>'
        f"<div>{description}{content}</div></details>"
    )


def _fields(schema: dict[str, Any]) -> str:
    required = schema.get("required", ())
    rows = [
        (_term(name, field, name in required), pages.text(field.get("description", "")))
        for name, field in schema.get("properties", {}).items()
    ]
    return _list(rows)


def _term(name: str, schema: dict[str, Any], is_required: bool, place: str = "") -> str:
    default = f", default <code>{escape(str(schema['default']))}</code>" if schema.get("default") is not None else ""
    required = ", required" if is_required else ""
    return f'<code>{escape(name)}</code> <span class="soft">{_type(schema)}{place}{required}{default}</span>'


def _list(rows: Any) -> str:
    items = "".join(f"<dt>{term}</dt>{f'<dd>{detail}</dd>' if detail else ''}" for term, detail in rows)
    return f"<dl>{items}</dl>" if items else ""


def _type(schema: dict[str, Any]) -> str:
    """The type in a few words, as HTML with links to objects."""
    if reference := schema.get("$ref"):
        name = escape(reference.rpartition("/")[2])
        return f'<a href="#{name}">{name}</a>'
    if "const" in schema:
        return f"<code>{escape(str(schema['const']))}</code>"
    if "enum" in schema:
        return " | ".join(f"<code>{escape(str(value))}</code>" for value in schema["enum"])
    for union in ("anyOf", "oneOf", "allOf"):
        if union in schema:
            return " or ".join(dict.fromkeys(_type(member) for member in schema[union]))
    kind = schema.get("type", "any value")
    if isinstance(kind, list):
        return escape(" or ".join(kind))
    if "prefixItems" in schema:
        return f"[{', '.join(map(_type, schema['prefixItems']))}]"
    if kind == "array":
        return f"array of {_type(schema.get('items', {}))}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"object with values: {_type(schema['additionalProperties'])}"
    low, high = schema.get("minimum"), schema.get("maximum")
    limits = [*([f"≥ {low}"] if low is not None else []), *([f"≤ {high}"] if high is not None else [])]
    return escape(" ".join([str(kind), *limits]))
