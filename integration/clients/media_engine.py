"""An engine for what the simulated one does not serve: audio, images, realtime, and the count of tokens.

It answers with what it has seen, so that a client can tell whether that arrived as it was sent.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading

from aiohttp import WSMsgType, web

MODEL = "org/media"
SPEECH = bytes(range(256)) * 64
"""What `/v1/audio/speech` says."""


class MediaEngine:
    """An engine on a thread of its own."""

    def __init__(self, host: str, port: int) -> None:
        self._loop = asyncio.new_event_loop()
        self._address = (host, port)
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        if not self._ready.wait(10.0):
            raise RuntimeError("the engine for media does not come up")

    def close(self) -> None:
        """Ends the engine."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10.0)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        self._loop.run_forever()

    async def _serve(self) -> None:
        app = web.Application(client_max_size=1 << 28)
        app.add_routes(
            [
                web.get("/health", _health),
                web.get("/v1/realtime", _realtime),
                web.post("/v1/audio/transcriptions", _transcription),
                web.post("/v1/audio/translations", _transcription),
                web.post("/v1/audio/speech", _speech),
                web.post("/v1/messages/count_tokens", _count_tokens),
            ]
        )
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, *self._address).start()
        self._ready.set()


async def _health(_: web.Request) -> web.Response:
    return web.Response()


async def _transcription(request: web.Request) -> web.StreamResponse:
    form = await request.post()
    if form["model"] != MODEL:
        return web.json_response({"error": {"message": f"no model {form['model']}"}}, status=404)
    sound = form["file"].file.read()
    text = f"{len(sound)} bytes, {hashlib.sha256(sound).hexdigest()}"
    if form.get("stream") != "true":
        return web.json_response({"text": text, "usage": {"type": "duration", "seconds": 1}})
    answer = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await answer.prepare(request)
    for event in ('{"type":"transcript.text.delta","delta":"%s"}', '{"type":"transcript.text.done","text":"%s"}'):
        await answer.write(f"data: {event % text}\n\n".encode())
    await answer.write_eof()
    return answer


async def _speech(request: web.Request) -> web.Response:
    asked = await request.json()
    if asked["model"] != MODEL:
        return web.json_response({"error": {"message": f"no model {asked['model']}"}}, status=404)
    return web.Response(body=SPEECH, content_type="audio/mpeg")


async def _count_tokens(request: web.Request) -> web.Response:
    asked = await request.json()
    return web.json_response({"input_tokens": len(str(asked["messages"]).split())})


async def _realtime(request: web.Request) -> web.WebSocketResponse:
    if request.query.get("model") != MODEL:
        raise web.HTTPNotFound
    socket = web.WebSocketResponse(protocols=["realtime"])
    await socket.prepare(request)
    await socket.send_json({"type": "session.created", "session": {"model": MODEL}})
    async for message in socket:
        if message.type == WSMsgType.TEXT:
            await socket.send_str(message.data)
        elif message.type == WSMsgType.BINARY:
            await socket.send_bytes(message.data)
    return socket
