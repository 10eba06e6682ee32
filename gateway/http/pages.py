"""HTML pages for people: one style, light and dark, without scripts, and nothing loaded from anywhere."""

import base64
import hashlib
import re
from html import escape

STYLE = """
:root { color-scheme: light dark; --ink: #1f2328; --soft: #59636e; --line: #d8dee4; --back: #ffffff; --raised: #f6f8fa;
  --link: #0757b8; --good: #1a7f37; --wait: #9a6700; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e8eb; --soft: #9aa4af; --line: #30363d; --back: #14171b; --raised: #1c2127; --link: #79b0ff;
    --good: #4cc266; --wait: #dba63a; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2.5rem 1.25rem 4rem; max-width: 46rem; background: var(--back); color: var(--ink);
  font: 1rem/1.6 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  overflow-wrap: break-word; }
h1 { margin: 0 0 .25rem; font-size: 1.7rem; line-height: 1.25; }
h2 { margin: 2.5rem 0 .5rem; font-size: 1.15rem; }
h3 { margin: 1.25rem 0 .35rem; font-size: .95rem; }
p, ul { margin: .5rem 0; }
ul { padding-left: 1.25rem; }
a { color: var(--link); text-underline-offset: .15em; }
code, pre { font: .88em/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, "Liberation Mono", monospace; }
code { background: var(--raised); border-radius: .25rem; padding: .1em .3em; }
pre { margin: .75rem 0; padding: .75rem 1rem; background: var(--raised); border: 1px solid var(--line);
  border-radius: .5rem; overflow-x: auto; }
pre code { background: none; padding: 0; }
.soft { color: var(--soft); }
.state { margin: 1rem 0 1.5rem; font-weight: 600; }
.state::before { content: ""; display: inline-block; width: .6rem; height: .6rem; margin-right: .55rem;
  border-radius: 50%; background: var(--wait); }
.ready::before { background: var(--good); }
details { border: 1px solid var(--line); border-radius: .5rem; margin: .4rem 0; }
summary { padding: .5rem .75rem; cursor: pointer; }
details > div { padding: 0 .75rem .5rem; border-top: 1px solid var(--line); }
.method { display: inline-block; min-width: 4.2rem; font-weight: 600; font-size: .8em; color: var(--soft); }
.path { background: none; padding: 0; }
.title { display: block; margin-left: 1rem; color: var(--soft); font-size: .9em; }
dl { margin: 0; }
dt { margin-top: .6rem; }
dd { margin: 0 0 0 1rem; color: var(--soft); font-size: .92em; }
:target { outline: 2px solid var(--link); outline-offset: 2px; }
"""

_STYLE_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
HEADERS = {
    "content-security-policy": f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
"""Headers of every page: the browser loads and runs nothing but the page's own style."""


def page(title: str, body: str, refresh_seconds: int | None = None) -> str:
    """A whole page. Args: body: HTML; everything in it must be escaped already."""
    refresh = "" if refresh_seconds is None else f'<meta http-equiv="refresh" content="{refresh_seconds}">\n'
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'{refresh}<link rel="icon" href="data:,">\n<title>{escape(title)}</title>\n<style>{STYLE}</style>\n'
        f"</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def text(plain: str) -> str:
    """Escapes a text; what stands between backticks becomes code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(plain))
