"""Requests of the size and the compressibility of what agents send."""

from __future__ import annotations

import gzip
import json

from contenders import HERE

BYTES = 100_000


def prose() -> str:
    """Returns a text such as agents send, which compresses as theirs do: this project's documentation."""
    pages = sorted((HERE.parent.parent / "docs").glob("*.md"))
    return "".join(page.read_text() for page in pages)[:BYTES]


def request_body(model: str, tokens: int, coding: str) -> bytes:
    """Returns the body of a request in this content coding, which is `gzip` or `identity`."""
    message = {"role": "user", "content": prose()}
    body = json.dumps({"model": model, "max_tokens": tokens, "messages": [message]}).encode()
    return gzip.compress(body) if coding == "gzip" else body
