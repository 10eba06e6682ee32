"""Pages load and run nothing but their own style."""

import base64
import hashlib
import re

import pytest

from gateway.http import pages


def test_the_policy_allows_exactly_the_style_of_the_page() -> None:
    html = pages.page("A & B", "<p>text</p>")
    (style,) = re.findall(r"<style>(.*?)</style>", html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = dict(part.strip().split(" ", 1) for part in pages.HEADERS["content-security-policy"].split(";"))
    assert policy["style-src"] == f"'sha256-{digest}'"
    assert policy["default-src"] == "'none'" and "script-src" not in policy
    assert "<title>A &amp; B</title>" in html and "refresh" not in html
    assert 'content="5"' in pages.page("A", "", refresh_seconds=5)


@pytest.mark.parametrize(
    ("plain", "html"),
    [
        ("a < b & `c<d>`", "a &lt; b &amp; <code>c&lt;d&gt;</code>"),
        ("<script>", "&lt;script&gt;"),
        ("one ` alone", "one ` alone"),
    ],
)
def test_a_text_is_escaped_and_backticks_mark_code(plain: str, html: str) -> None:
    assert pages.text(plain) == html
