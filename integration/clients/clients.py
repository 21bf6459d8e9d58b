"""What published clients do, and what must come of it. A case fails by raising."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import subprocess
from collections.abc import Callable

import aiohttp
import anthropic
import httpx
import litellm
import openai
import websockets.exceptions
import websockets.sync.client as websockets_client
from langchain_openai import ChatOpenAI, OpenAIEmbeddings

import media_engine
from rig import Road

litellm.suppress_debug_info = True

Case = Callable[[Road], None]
KEY = "none"
TEXT = "Say something: größer, 模型."
MESSAGES = [{"role": "user", "content": TEXT}]
SOUND = bytes(range(251)) * 4000
SOUND_TEXT = f"{len(SOUND)} bytes, {hashlib.sha256(SOUND).hexdigest()}"


def check(condition: object, what: str) -> None:
    """Fails a case unless a condition holds."""
    if not condition:
        raise AssertionError(what)


def openai_client(road: Road, **more: object) -> openai.OpenAI:
    """Returns OpenAI's client."""
    return openai.OpenAI(base_url=f"{road.base}/v1", api_key=KEY, max_retries=0, timeout=20.0, **more)


def openai_chat(road: Road, **more: object) -> None:
    """Asks for a chat completion."""
    answer = openai_client(road, **more).chat.completions.create(model=road.model, messages=MESSAGES)
    check(answer.choices[0].message.content and answer.usage.total_tokens, f"{answer}")


def openai_chat_stream(road: Road, **more: object) -> None:
    """Asks for the same as a stream, without and with usage."""
    client = openai_client(road, **more)
    chunks = list(client.chat.completions.create(model=road.model, messages=MESSAGES, stream=True))
    check(all(chunk.choices and not chunk.usage for chunk in chunks), "an event that was not asked for")
    check("".join(chunk.choices[0].delta.content or "" for chunk in chunks), "no content")
    options = {"include_usage": True}
    asked = client.chat.completions.create(model=road.model, messages=MESSAGES, stream=True, stream_options=options)
    check(list(asked)[-1].usage.total_tokens, "no usage")


def openai_completions(road: Road) -> None:
    """Asks for completions of prompts of each shape."""
    client = openai_client(road)
    for prompt in ("a", ["a"], [1, 2, 3], [[1, 2]]):
        check(client.completions.create(model=road.model, prompt=prompt).choices, f"no choice for {prompt}")
    check(list(client.completions.create(model=road.model, prompt="a", stream=True)), "no events")


def openai_responses(road: Road, **more: object) -> None:
    """Asks for a response, whole and as a stream."""
    client = openai_client(road, **more)
    check(client.responses.create(model=road.model, input=TEXT).output_text, "no text")
    types = [event.type for event in client.responses.create(model=road.model, input=TEXT, stream=True)]
    check(types[-1] == "response.completed", f"{types}")


def openai_embeddings(road: Road) -> None:
    """Asks for embeddings."""
    check(len(openai_client(road).embeddings.create(model=road.model, input=["a", "b"]).data) == 2, "not two")


def openai_models(road: Road) -> None:
    """Lists the models."""
    names = [model.id for model in openai_client(road).models.list()]
    check(road.model in names, f"{names}")


def openai_unknown(road: Road) -> None:
    """Asks for a model that is not there."""
    try:
        openai_client(road).chat.completions.create(model="unknown", messages=MESSAGES)
    except openai.NotFoundError as error:
        check("unknown" in error.message, error.message)
        return
    raise AssertionError("it was served")


def openai_transcription(road: Road) -> None:
    """Sends a sound, for an answer and for a stream."""
    client = openai_client(road)
    sound = ("a.wav", io.BytesIO(SOUND))
    check(client.audio.transcriptions.create(model=road.media, file=sound).text == SOUND_TEXT, "another sound")
    sound = ("größer.wav", io.BytesIO(SOUND))
    events = list(client.audio.transcriptions.create(model=road.media, file=sound, stream=True))
    check(events[-1].text == SOUND_TEXT, f"{events}")


def openai_speech(road: Road) -> None:
    """Has a text spoken."""
    answer = openai_client(road).audio.speech.create(model=road.media, voice="alloy", input="a")
    check(answer.content == media_engine.SPEECH, "other bytes")


def openai_realtime(road: Road) -> None:
    """Opens a realtime session, whose model is in the query."""
    with openai_client(road).realtime.connect(model=road.media) as connection:
        check(connection.recv().type == "session.created", "no session")


def anthropic_client(road: Road, **more: object) -> anthropic.Anthropic:
    """Returns Anthropic's client."""
    return anthropic.Anthropic(base_url=road.base, api_key=KEY, max_retries=0, timeout=20.0, **more)


def anthropic_messages(road: Road, **more: object) -> None:
    """Asks for a message, whole and as a stream."""
    client = anthropic_client(road, **more)
    answer = client.messages.create(model=road.model, max_tokens=50, messages=MESSAGES, system=[{"type": "text", "text": "a"}])
    check(answer.content[0].text and answer.usage.output_tokens, f"{answer}")
    with client.messages.stream(model=road.model, max_tokens=50, messages=MESSAGES) as stream:
        check("".join(stream.text_stream), "no text")
        check(stream.get_final_message().usage.output_tokens, "no usage")


def anthropic_count(road: Road) -> None:
    """Has tokens counted."""
    answer = anthropic_client(road).messages.count_tokens(model=road.media, messages=MESSAGES)
    check(answer.input_tokens > 0, f"{answer}")


def anthropic_unknown(road: Road) -> None:
    """Asks for a model that is not there."""
    try:
        anthropic_client(road).messages.create(model="unknown", max_tokens=1, messages=MESSAGES)
    except anthropic.NotFoundError as error:
        # Over an HTTPRoute it is the engine that refuses, in its own words.
        check("unknown" in error.body["error"]["message"], f"{error.body}")
        return
    raise AssertionError("it was served")


def langchain_chat(road: Road) -> None:
    """Invokes and streams a chat model."""
    chat = ChatOpenAI(base_url=f"{road.base}/v1", api_key=KEY, model=road.model, max_retries=0)
    check(chat.invoke(TEXT).content, "no content")
    check("".join(str(chunk.content) for chunk in chat.stream(TEXT)), "no content of a stream")


def langchain_embeddings(road: Road) -> None:
    """Embeds documents."""
    embeddings = OpenAIEmbeddings(
        base_url=f"{road.base}/v1", api_key=KEY, model=road.model, check_embedding_ctx_length=False
    )
    check(len(embeddings.embed_documents(["a", "b"])) == 2, "not two")


def litellm_chat(road: Road) -> None:
    """Completes by OpenAI's and by Anthropic's API."""
    more = {"api_key": KEY, "messages": MESSAGES, "max_tokens": 50, "num_retries": 0}
    for provider, base in (("openai", f"{road.base}/v1"), ("anthropic", road.base)):
        model = f"{provider}/{road.model}"
        answer = litellm.completion(model=model, api_base=base, **more)
        check(answer.choices[0].message.content, f"{provider}: no content")
        chunks = litellm.completion(model=model, api_base=base, stream=True, **more)
        check("".join(chunk.choices[0].delta.content or "" for chunk in chunks), f"{provider}: no stream")


def body_of(road: Road, **more: object) -> dict[str, object]:
    """Returns the body of a chat completion."""
    return {"model": road.model, "messages": MESSAGES, **more}


def check_events(lines: list[str]) -> None:
    """Checks a stream of chat completions."""
    events = [line.removeprefix("data: ") for line in lines if line]
    check(all(line.startswith("data: ") for line in lines if line), f"{lines}")
    check(events[-1] == "[DONE]" and all(json.loads(event)["choices"] for event in events[:-1]), f"{events}")


def httpx_case(version: int) -> Case:
    """Returns what httpx does over a version of HTTP."""

    def case(road: Road) -> None:
        url = f"{road.base}/v1/chat/completions"
        with httpx.Client(http1=version == 1, http2=version == 2, timeout=20.0) as client:
            answer = client.post(url, json=body_of(road))
            check(answer.status_code == 200 and answer.http_version == {1: "HTTP/1.1", 2: "HTTP/2"}[version], f"{answer}")
            with client.stream("POST", url, json=body_of(road, stream=True)) as stream:
                check_events(list(stream.iter_lines()))

    return case


def aiohttp_chat(road: Road) -> None:
    """Posts a body, whole and in chunks, for an answer and for a stream."""

    async def pieces() -> object:
        for piece in json.dumps(body_of(road)).encode():
            yield bytes([piece])

    async def run() -> None:
        url = f"{road.base}/v1/chat/completions"
        async with aiohttp.ClientSession() as session:
            async with session.post(url, json=body_of(road)) as answer:
                check(answer.status == 200 and (await answer.json())["choices"], f"{answer}")
            headers = {"content-type": "application/json"}
            async with session.post(url, data=pieces(), headers=headers) as answer:
                check(answer.status == 200, f"in chunks: {answer}")
            async with session.post(url, json=body_of(road, stream=True)) as answer:
                check_events((await answer.text()).splitlines())

    asyncio.run(run())


def aiohttp_form(road: Road) -> None:
    """Sends a form in chunks, with the model behind the file."""

    async def run() -> None:
        form = aiohttp.FormData()
        form.add_field("file", io.BytesIO(SOUND), filename="a.wav")
        form.add_field("model", road.media)
        async with aiohttp.ClientSession() as session:
            async with session.post(f"{road.base}/v1/audio/transcriptions", data=form) as answer:
                check((await answer.json())["text"] == SOUND_TEXT, f"{answer}")

    asyncio.run(run())


def curl(road: Road, path: str, *more: str, data: bytes = b"") -> tuple[int, str]:
    """Runs curl, and returns the status and the body."""
    command = ["curl", "--silent", "--show-error", "--no-buffer", "--max-time", "20", "--write-out", "\n%{http_code}"]
    done = subprocess.run([*command, *more, road.base + path], input=data, capture_output=True, check=True)
    body, _, status = done.stdout.decode().rpartition("\n")
    return int(status), body


def curl_chat(*version: str) -> Case:
    """Returns what curl does over a version of HTTP."""

    def case(road: Road) -> None:
        data = ("--header", "content-type: application/json", "--data-binary", "@-")
        path = "/v1/chat/completions"
        status, body = curl(road, path, *version, *data, data=json.dumps(body_of(road)).encode())
        check(status == 200 and json.loads(body)["choices"], f"{status} {body}")
        status, body = curl(road, path, *version, *data, data=json.dumps(body_of(road, stream=True)).encode())
        check_events(body.splitlines())

    return case


def curl_form(road: Road) -> None:
    """Sends a form, which curl announces by `Expect: 100-continue`."""
    form = ("--form", f"model={road.media}", "--form", "file=@-;filename=a.wav")
    status, body = curl(road, "/v1/audio/transcriptions", *form, data=SOUND)
    check(status == 200 and json.loads(body)["text"] == SOUND_TEXT, f"{status} {body}")


def websockets_realtime(road: Road) -> None:
    """Sends messages of each kind, and is refused without a model."""
    url = road.base.replace("http", "ws", 1) + "/v1/realtime"
    with websockets_client.connect(f"{url}?model={road.media}", subprotocols=["realtime"]) as socket:
        check(socket.subprotocol == "realtime" and "session.created" in socket.recv(), "no session")
        for message in (TEXT, SOUND[:100_000]):
            socket.send(message)
            check(socket.recv() == message, "another message")
    try:
        websockets_client.connect(f"{url}?model=unknown").close()
    except websockets.exceptions.InvalidStatus as refused:
        check(refused.response.status_code == 404, f"{refused}")
        return
    raise AssertionError("it was served")


CLIENTS: dict[str, dict[str, Case]] = {
    "openai (Python)": {
        "chat": openai_chat,
        "chat, stream": openai_chat_stream,
        "completions": openai_completions,
        "responses": openai_responses,
        "embeddings": openai_embeddings,
        "models": openai_models,
        "unknown model": openai_unknown,
        "transcription": openai_transcription,
        "speech": openai_speech,
        "realtime": openai_realtime,
    },
    "anthropic (Python)": {
        "messages": anthropic_messages,
        "count of tokens": anthropic_count,
        "unknown model": anthropic_unknown,
    },
    "langchain-openai": {"chat": langchain_chat, "embeddings": langchain_embeddings},
    "litellm": {"completion, OpenAI's and Anthropic's": litellm_chat},
    "httpx HTTP/1.1": {"chat, whole and stream": httpx_case(1)},
    "httpx HTTP/2": {"chat, whole and stream": httpx_case(2)},
    "aiohttp": {"chat, whole, in chunks and stream": aiohttp_chat, "form with the model last": aiohttp_form},
    "curl HTTP/1.1": {"chat, whole and stream": curl_chat("--http1.1"), "form": curl_form},
    "curl HTTP/2": {"chat, whole and stream": curl_chat("--http2-prior-knowledge")},
    "websockets": {"realtime": websockets_realtime},
}
