"""OpenAI's own client, and LangChain's, against a running service: what people have works unchanged."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import openai
import pytest
from fastapi import FastAPI

from model.config import Sampling
from service.errors import UpstreamError
from service.runner import Runner
from tests.service.conftest import leave, until
from tests.service.fakes import MemoryLibrary, ScriptedGenerator

TURNS: Any = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "How tall is it?"}]
QUESTION: Any = [{"role": "user", "content": "How tall is the Eiffel Tower?"}]
REPLY = "The tower is 330 metres tall."


@pytest.fixture
def client(address: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0, timeout=30) as client:
        yield client


def runner(app: FastAPI) -> Runner:
    found: Runner = app.state.parts.runner
    return found


def test_a_chat_and_its_stream_say_the_same(client: openai.OpenAI, generator: ScriptedGenerator) -> None:
    whole = client.chat.completions.create(model="scripted", messages=TURNS)
    assert generator.asked == [TURNS]  # as they were sent: nothing is put before or between them
    assert whole.choices[0].message.content == REPLY and whole.choices[0].finish_reason == "stop"
    assert whole.usage and whole.usage.prompt_tokens == generator.count_tokens(TURNS)
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens == 14 + 6

    chunks = list(
        client.chat.completions.create(
            model="scripted", messages=TURNS, stream=True, stream_options={"include_usage": True}
        )
    )
    assert chunks[0].choices[0].delta.role == "assistant"
    said = [c.choices[0].delta.content for c in chunks if c.choices and c.choices[0].delta.content]
    assert len(said) == 6 and "".join(said) == REPLY
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-2:] == [None, "stop"]
    assert chunks[-1].choices == [] and chunks[-1].usage == whole.usage
    assert len({c.id for c in chunks}) == 1 and all(c.usage is None for c in chunks[:-1])


def test_the_stream_ends_with_done_and_usage_comes_only_when_asked_for(address: str) -> None:
    body = {"model": "scripted", "messages": TURNS, "stream": True}
    with httpx.stream("POST", f"{address}/v1/chat/completions", json=body) as reply:
        assert reply.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in reply.iter_lines() if line]
    assert lines[-1] == "data: [DONE]" and all(line.startswith("data: ") for line in lines)
    assert not any("usage" in json.loads(line[6:]) for line in lines[:-1])


def test_decoding_reaches_the_generator_and_the_limit_is_said(
    client: openai.OpenAI, generator: ScriptedGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Sampling] = []
    stream = generator.stream
    monkeypatch.setattr(
        generator, "stream", lambda m, sampling, c: [seen.append(sampling), stream(m, sampling, c)][1]
    )
    generator.finish_reason = "length"
    reply = client.chat.completions.create(
        model="scripted", messages=TURNS, max_completion_tokens=9, temperature=0.5, top_p=0.9, seed=-1,
        stop=["\n", "END"], n=1, user="me", store=False, metadata={"a": "b"}, parallel_tool_calls=False,
        logit_bias={}, presence_penalty=0, extra_body={"min_p": 0.1, "something_new": [1]},
    )  # fmt: skip
    assert reply.choices[0].finish_reason == "length"
    want = Sampling(max_tokens=9, temperature=0.5, top_p=0.9, min_p=0.1, stop=("\n", "END"), seed=2**63 - 1)
    assert seen == [want]
    client.chat.completions.create(model="scripted", messages=TURNS, stop="\n", top_p=0)
    assert seen[1].stop == ("\n",) and 0 < seen[1].top_p < 1e-3
    assert seen[1].temperature == 0 and seen[1].max_tokens == 1024  # nothing said: the likeliest, and a bound


def test_reasoning_stands_apart(client: openai.OpenAI, generator: ScriptedGenerator) -> None:
    generator.reply = "<think>Let me see.</think>It is tall."
    message = client.chat.completions.create(model="scripted", messages=TURNS).choices[0].message
    assert message.content == "It is tall." and message.model_extra == {"reasoning_content": "Let me see."}


def test_an_answer_from_documents_keeps_its_sources(client: openai.OpenAI, library: MemoryLibrary) -> None:
    for model in ("lorebase:default", "lorebase"):
        reply = client.chat.completions.create(model=model, messages=QUESTION)
        assert reply.choices[0].message.content == f"{REPLY} [1]" and reply.model == model
        kept = reply.model_extra or {}
        (citation,) = kept["citations"]
        text = library.text("default", citation["document_id"])
        assert text[citation["char_start"] : citation["char_end"]] == citation["text"] == REPLY
        assert kept["sources"][0]["path"] == "tower.md" and kept["answered"] is True
    chunks = list(client.chat.completions.create(model="lorebase:default", messages=QUESTION, stream=True))
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == f"{REPLY} [1]"
    assert [c.model_extra["sources"][0]["path"] for c in chunks if "sources" in (c.model_extra or {})] == [
        "tower.md"
    ]
    assert (chunks[-1].model_extra or {})["citations"] == [citation] and chunks[-1].choices[
        0
    ].finish_reason == "stop"

    refused = client.chat.completions.create(
        model="lorebase", messages=[{"role": "user", "content": "Who wrote Hamlet?"}]
    )
    assert (refused.model_extra or {})["answered"] is False and (refused.model_extra or {})["citations"] == []
    assert refused.choices[0].message.content and (refused.model_extra or {})["refusal_reason"]


def test_a_follow_up_is_understood_by_the_turns_before_it(
    client: openai.OpenAI, library: MemoryLibrary
) -> None:
    turns: Any = [
        {"role": "system", "content": "Answer in rhymes about zebras."},
        *QUESTION,
        {"role": "assistant", "content": f"{REPLY} [1]"},
        {"role": "user", "content": "And where does it stand?"},
    ]
    client.chat.completions.create(model="lorebase", messages=turns)
    assert any("Eiffel" in words for words in library.searched)
    assert not any("zebras" in words for words in library.searched)


def test_what_would_change_the_reply_and_cannot_be_done_is_refused(
    client: openai.OpenAI, generator: ScriptedGenerator
) -> None:
    for field, value in {
        "n": 2, "tools": [{"type": "function", "function": {"name": "f"}}], "logprobs": True, "top_logprobs": 3,
        "response_format": {"type": "json_object"}, "logit_bias": {"5": 1}, "presence_penalty": 1, "frequency_penalty": 0.1,
        "tool_choice": "required", "modalities": ["audio"], "audio": {"voice": "x"},
    }.items():  # fmt: skip
        with pytest.raises(openai.BadRequestError) as refused:
            client.chat.completions.create(model="scripted", messages=TURNS, extra_body={field: value})
        assert (refused.value.param, refused.value.code, refused.value.type) == (
            field,
            "unsupported_parameter",
            "invalid_request_error",
        )
    for message in (
        {"role": "tool", "content": "4", "tool_call_id": "1"},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://evil.test/x.png"}}]},
    ):
        with pytest.raises(openai.BadRequestError, match=r"messages\.0"):
            client.chat.completions.create(model="scripted", messages=[message])  # type: ignore[list-item]
    parts: Any = [
        {"role": "developer", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}
    ]
    assert generator.asked == []
    client.chat.completions.create(model="scripted", messages=parts)
    assert generator.asked == [[{"role": "system", "content": "a\nb"}]]


def test_errors_are_those_that_its_client_knows(
    client: openai.OpenAI, library: MemoryLibrary, address: str
) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model="gpt-4o", messages=TURNS)
    assert missing.value.code == "model_not_found" and "scripted" in missing.value.message
    with pytest.raises(openai.NotFoundError, match="no collection"):
        client.chat.completions.create(model="lorebase:nope", messages=QUESTION)
    with pytest.raises(openai.BadRequestError) as hot:
        client.chat.completions.create(model="scripted", messages=TURNS, temperature=3)
    assert hot.value.param == "temperature"
    with pytest.raises(openai.BadRequestError) as long:
        client.chat.completions.create(model="scripted", messages=TURNS, max_tokens=2048)
    assert long.value.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError, match="last user turn"):
        client.chat.completions.create(model="lorebase", messages=TURNS[:1])
    with pytest.raises(openai.NotFoundError):
        client.fine_tuning.jobs.list()
    for raw in (b"{", b"[]", b'{"model": "scripted", "messages": [{"role": "user", "content": "\\ud800"}]}'):
        reply = httpx.post(
            f"{address}/v1/chat/completions", content=raw, headers={"Content-Type": "application/json"}
        )
        assert reply.status_code == 400 and reply.json()["error"]["type"] == "invalid_request_error", raw
    library.failure = RuntimeError("secret")
    with pytest.raises(openai.InternalServerError) as inside:
        client.chat.completions.create(model="lorebase", messages=QUESTION, stream=True)
    assert "secret" not in inside.value.message and inside.value.type == "server_error"


def test_what_goes_wrong_in_a_stream_reaches_the_client(
    client: openai.OpenAI, generator: ScriptedGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = generator.stream

    def breaks(*asked: Any) -> Iterator[Any]:
        yield next(stream(*asked))
        raise UpstreamError("the other server broke off")

    monkeypatch.setattr(generator, "stream", breaks)
    chunks = client.chat.completions.create(model="scripted", messages=TURNS, stream=True)
    with pytest.raises(openai.APIError, match="broke off"):
        list(chunks)
    with pytest.raises(openai.InternalServerError, match="broke off") as whole:
        client.chat.completions.create(model="scripted", messages=TURNS)
    assert whole.value.status_code == 502


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_frees_the_slot(
    client: openai.OpenAI, address: str, app: FastAPI, generator: ScriptedGenerator, stream: bool
) -> None:
    generator.gate = threading.Event()
    body = {"model": "scripted", "messages": TURNS, "stream": stream}
    leave(address, "/v1/chat/completions", body, lambda: bool(generator.asked))
    until(lambda: runner(app).running == 0)
    assert generator.cancelled == 1
    generator.gate.set()
    generator.reply = "word " * 100_000
    chunks = client.chat.completions.create(model="scripted", messages=TURNS, stream=True)
    assert [next(chunks) for _ in range(3)]
    chunks.close()  # in the middle
    until(lambda: runner(app).running == 0)
    assert len(generator.asked) == 2


def test_a_full_queue_refuses_before_any_work(
    client: openai.OpenAI, app: FastAPI, generator: ScriptedGenerator
) -> None:
    generator.gate = threading.Event()
    threads = [
        threading.Thread(
            target=lambda: client.chat.completions.create(model="scripted", messages=TURNS), daemon=True
        )
        for _ in range(5)
    ]
    for thread in threads:
        thread.start()
    until(lambda: runner(app).running + runner(app).waiting == 5)
    with pytest.raises(openai.RateLimitError) as refused:
        client.chat.completions.create(model="lorebase", messages=QUESTION)
    assert int(refused.value.response.headers["retry-after"]) >= 1 and refused.value.code == "busy"
    assert len(generator.asked) <= 1
    generator.gate.set()
    for thread in threads:
        thread.join(20)
    assert len(generator.asked) == 5


def test_embeddings_are_the_embedders_own(client: openai.OpenAI, library: MemoryLibrary) -> None:
    texts = ["the tower", "a bridge"]
    want = library.hashes.encode_passages(texts)
    coded = client.embeddings.create(model="hash", input=texts)  # this client asks for base64
    plain = client.embeddings.create(model="hash", input=texts[0], encoding_format="float")
    np.testing.assert_array_equal(np.array([d.embedding for d in coded.data], np.float32), want)
    np.testing.assert_allclose(plain.data[0].embedding, want[0], rtol=1e-6)
    assert [d.index for d in coded.data] == [0, 1] and coded.usage.prompt_tokens == sum(
        library.hashes.count_tokens(texts)
    )
    raw = client.embeddings.with_raw_response.create(model="hash", input=texts[0], encoding_format="base64")
    sent = raw.http_response.json()["data"][0]["embedding"]
    np.testing.assert_array_equal(np.frombuffer(base64.b64decode(sent), "<f4"), want[0])
    with pytest.raises(openai.NotFoundError, match="there is hash"):
        client.embeddings.create(model="text-embedding-3-small", input="x")
    for bad in (
        {"input": [1, 2]},
        {"input": [[1]]},
        {"input": []},
        {"input": "word " * 999},
        {"dimensions": 7},
    ):
        with pytest.raises(openai.BadRequestError):
            client.embeddings.create(**{"model": "hash", "input": "x"} | bad)  # type: ignore[arg-type]


def test_everything_that_can_be_named_is_listed(client: openai.OpenAI) -> None:
    listed = [model.id for model in client.models.list()]
    assert listed == ["scripted", "lorebase:default", "hash"]
    assert all(client.models.retrieve(name).id == name for name in listed)
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-4o")
    assert (
        client.models.retrieve("lorebase").id
        == client.models.retrieve("lorebase:default").id
        == "lorebase:default"
    )


def test_a_text_goes_on_only_where_the_engine_can(
    client: openai.OpenAI, generator: ScriptedGenerator
) -> None:
    with pytest.raises(openai.BadRequestError, match="as a chat"):
        client.completions.create(model="scripted", prompt="Once")

    def go_on(text: str, sampling: Sampling, cancel: threading.Event) -> Iterator[Any]:
        return generator.stream([{"role": "user", "content": text}], sampling, cancel)

    generator.go_on, generator.count_text = go_on, len  # type: ignore[attr-defined]
    whole = client.completions.create(model="scripted", prompt="Once")
    assert whole.choices[0].text == REPLY and whole.choices[0].finish_reason == "stop" and whole.usage
    assert generator.asked[-1][0]["content"] == "Once"
    pieces = list(client.completions.create(model="scripted", prompt=["Once"], stream=True))
    assert (
        "".join(p.choices[0].text for p in pieces) == REPLY and pieces[-1].choices[0].finish_reason == "stop"
    )
    with pytest.raises(openai.BadRequestError, match="one text"):
        client.completions.create(model="scripted", prompt=["a", "b"])


def test_langchain_talks_to_it(address: str, library: MemoryLibrary) -> None:
    chat_models = pytest.importorskip("langchain_openai", reason="LangChain's client is not installed")
    model = chat_models.ChatOpenAI(base_url=f"{address}/v1", api_key="none", model="scripted", max_retries=0)
    reply = model.invoke("How tall?")
    assert reply.content == REPLY and reply.usage_metadata["output_tokens"] == 6
    assert "".join(piece.content for piece in model.stream("How tall?")) == REPLY
    cited = model.model_copy(update={"model_name": "lorebase:default"}).invoke(QUESTION[0]["content"])
    assert cited.content == f"{REPLY} [1]"
    embeddings = chat_models.OpenAIEmbeddings(
        base_url=f"{address}/v1", api_key="none", model="hash", check_embedding_ctx_length=False
    )
    np.testing.assert_allclose(
        embeddings.embed_documents(["a tower"]), library.hashes.encode_passages(["a tower"]), rtol=1e-6
    )
