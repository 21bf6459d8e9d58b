"""The same clients with compressed requests, as agents send them."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections.abc import Callable

import aiohttp
import brotli
import httpx2
import zstandard

from clients import Case, anthropic_messages, body_of, check, curl, openai_chat, openai_chat_stream, openai_responses
from rig import Road

ENCODERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": zstandard.ZstdCompressor().compress,
}


class Compressing(httpx2.HTTPTransport):
    """Sends the bodies of requests compressed."""

    def __init__(self, coding: str) -> None:
        super().__init__()
        self._coding = coding

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Sends a request."""
        body = ENCODERS[self._coding](request.read())
        headers = [(name, value) for name, value in request.headers.raw if name.lower() != b"content-length"]
        coded = [*headers, (b"content-encoding", self._coding.encode())]
        sent = httpx2.Request(request.method, request.url, headers=coded, content=body, extensions=request.extensions)
        return super().handle_request(sent)


def through_sdks(coding: str) -> Case:
    """Returns what the two SDKs do with compressed bodies."""

    def case(road: Road) -> None:
        for ask in (openai_chat, openai_chat_stream, openai_responses, anthropic_messages):
            with httpx2.Client(transport=Compressing(coding), timeout=20.0) as client:
                ask(road, http_client=client)

    return case


def through_curl(coding: str) -> Case:
    """Returns what curl does with a compressed file."""

    def case(road: Road) -> None:
        body = ENCODERS[coding](json.dumps(body_of(road)).encode())
        headers = ("--header", "content-type: application/json", "--header", f"content-encoding: {coding}")
        for chunked in ((), ("--header", "transfer-encoding: chunked")):
            status, text = curl(road, "/v1/chat/completions", *headers, *chunked, "--data-binary", "@-", data=body)
            check(status == 200 and json.loads(text)["choices"], f"{status} {text}")

    return case


def through_aiohttp(road: Road) -> None:
    """Has aiohttp compress a body by itself, while it is sent in chunks."""

    async def run() -> None:
        url = f"{road.base}/v1/chat/completions"
        async with aiohttp.ClientSession() as session:
            for coding in ("gzip", "deflate"):
                async with session.post(url, json=body_of(road), compress=coding) as answer:
                    check(answer.status == 200, f"{coding}: {answer.status} {await answer.text()}")

    asyncio.run(run())


CLIENTS: dict[str, dict[str, Case]] = {
    "openai and anthropic, compressed": {coding: through_sdks(coding) for coding in ENCODERS},
    "curl compressed": {coding: through_curl(coding) for coding in ENCODERS},
    "aiohttp compressed": {"gzip and deflate": through_aiohttp},
}
