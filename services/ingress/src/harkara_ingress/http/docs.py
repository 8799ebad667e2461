"""The docs page, plain HTML made from the description: it works without any other host, and without scripts."""

from collections.abc import Iterator
from html import escape
from typing import Any

import orjson

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b1f24}"
    "code,pre{font:14px/1.4 ui-monospace,monospace;background:#f3f4f6;border-radius:4px}"
    "code{padding:.1rem .3rem}pre{padding:.8rem;overflow:auto}"
    "summary{cursor:pointer;padding:.3rem 0}h2{margin-top:2rem;border-bottom:1px solid #d0d7de}"
    "b{display:inline-block;min-width:4.5rem}table{border-collapse:collapse}td{padding:.1rem .8rem .1rem 0}"
    "@media(prefers-color-scheme:dark){body{background:#0d1117;color:#e6edf3}code,pre{background:#161b22}}"
)


def docs_page(description: dict[str, Any]) -> str:
    """Return one page: every operation with its parameters, body and answers, then every schema."""
    return "".join(_parts(description))


def _parts(description: dict[str, Any]) -> Iterator[str]:
    title = escape(description["info"]["title"])
    yield f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title} API</title>'
    yield f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style><h1>{title} API</h1>'
    yield f"<p>{_text(description['info']['description'])}</p>"
    yield '<p>Machine readable: <a href="/openapi.json">/openapi.json</a></p>'
    section = ""
    for path, operations in description["paths"].items():
        for method, operation in operations.items():
            tag = operation.get("tags", ["other"])[0]
            if tag != section:
                section = tag
                yield f"<h2>{escape(tag.capitalize())}</h2>"
            yield from _operation(path, method, operation)
    yield "<h2>Schemas</h2>"
    for name, schema in sorted(description["components"]["schemas"].items()):
        yield f'<details id="{escape(name)}"><summary><code>{escape(name)}</code></summary>'
        yield f"<pre>{_json(schema)}</pre></details>"


def _operation(path: str, method: str, operation: dict[str, Any]) -> Iterator[str]:
    words = operation.get("description") or operation.get("summary", "")
    yield f"<details><summary><b>{method.upper()}</b> <code>{escape(path)}</code> {_text(words)}</summary><table>"
    for parameter in operation.get("parameters", ()):
        if "$ref" in parameter:
            continue  # what every operation takes
        need = "required" if parameter.get("required") else "optional"
        yield f"<tr><td><code>{escape(parameter['name'])}</code><td>{parameter['in']}, {need}"
        yield f"<td>{_text(parameter.get('description', ''))}"
    body = operation.get("requestBody")
    if body:
        yield f"<tr><td>body<td>JSON<td>{_schema(body['content']['application/json']['schema'])}"
    for status, response in operation["responses"].items():
        schema = response.get("content", {}).get("application/json", {}).get("schema", {})
        yield f"<tr><td>{escape(status)}<td>{_text(response['description'])}<td>{_schema(schema)}"
    yield "</table>"
    if body:
        yield f"<pre>{_json(body['content']['application/json']['example'])}</pre>"
    yield "</details>"


def _json(value: Any) -> str:
    return escape(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())


def _schema(schema: dict[str, Any]) -> str:
    for one in (schema, *schema.get("anyOf", ())):
        if "$ref" in one:
            name = escape(one["$ref"].rpartition("/")[2])
            return f'<a href="#{name}"><code>{name}</code></a>'
    return ""


def _text(words: str) -> str:
    pieces = escape(words).split("`")
    return "".join(f"<code>{piece}</code>" if place % 2 else piece for place, piece in enumerate(pieces))
