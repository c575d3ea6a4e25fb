"""`/score` against logits computed one position at a time, `/embed` against the embedder; with a real small engine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import openai
import pytest
from fastapi.testclient import TestClient

from ingest.embed import find_embedder
from ingest.settings import IngestSettings, find_home
from model.config import Sampling
from model.engine import Engine
from service import wiring
from service.app import create_app
from service.generators.own import OwnGenerator
from service.settings import ServiceSettings
from service.shelves import Shelves
from tests.service import reading_engine
from tests.service.conftest import serving, until
from tests.service.fakes import MemoryLibrary

NEEDED = ("smollm2-135m-instruct", "multilingual-e5-small")


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return reading_engine.build(tmp_path_factory.mktemp("tiny")).use(None)


@pytest.fixture
def scoring(engine: Engine, tmp_path: Path, library: MemoryLibrary) -> Iterator[TestClient]:
    app = create_app(ServiceSettings(), tmp_path, library, OwnGenerator(engine))
    with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
        assert app.state.parts.readiness.wait(20)
        yield client


def test_scores_are_the_models_own(scoring: TestClient, engine: Engine) -> None:
    given = [" metres", " metres tall", "x 🗼"]
    reply = scoring.post("/score", json={"prompt": "The tower is", "continuations": given}).json()
    prompt = engine.tokenizer.encode("The tower is")
    assert reply["model"] == "tiny" and reply["prompt_tokens"] == len(prompt)
    for text, result in zip(given, reply["results"], strict=True):
        ids = engine.tokenizer.encode(text)
        want = []
        for at, token in enumerate(ids):
            logits, _ = engine.prefill([prompt + ids[:at]])
            want.append(float(logits[0].log_softmax(-1)[token]))
        np.testing.assert_allclose(result["logprobs"], want, atol=1e-3)
        assert result["token_ids"] == ids and len(result["tokens"]) == len(ids) and result["text"] == text
        assert result["logprob"] == pytest.approx(sum(want), abs=1e-2)


def test_a_text_goes_on_as_the_engine_would(scoring: TestClient, engine: Engine) -> None:
    body = {"model": "tiny", "prompt": "The tower is", "max_tokens": 5}
    reply = scoring.post("/v1/completions", json=body).json()
    going = engine.generate(engine.tokenizer.encode("The tower is"), Sampling(max_tokens=5))
    assert reply["choices"][0]["text"] == "".join(token.text for token in going)
    assert reply["usage"]["completion_tokens"] == going.completion_tokens
    raw = {
        "model": "tiny",
        "prompt": "The tower is",
        "raw": True,
        "stream": False,
        "options": {"num_predict": 5},
    }
    assert scoring.post("/api/generate", json=raw).json()["response"] == reply["choices"][0]["text"]
    full = scoring.post("/v1/completions", json=body | {"prompt": "word " * 3000}).json()
    assert full["error"]["code"] == "context_length_exceeded"


def test_vectors_are_the_embedders_own(client: TestClient, library: MemoryLibrary) -> None:
    texts = [f"tower {number}" for number in range(70)]  # more than one batch
    reply = client.post("/embed", json={"texts": texts, "kind": "query"}).json()
    np.testing.assert_allclose(reply["vectors"], library.hashes.encode_queries(texts), rtol=1e-6)
    assert reply["model"] == "hash" and reply["dimension"] == 128
    assert reply["tokens"] == sum(library.hashes.count_tokens(texts))
    assert client.post("/embed", json={"texts": ["x"], "model": "other"}).status_code == 404
    long = {"texts": ["x", "word " * 300]}
    refused = client.post("/embed", json=long)
    assert refused.status_code == 422 and "texts.1" in refused.json()["error"]["message"]
    assert client.post("/embed", json=long | {"truncate": True}).json()["tokens"] == 3 + 256


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/embed", {"texts": []}),
        ("/embed", {"texts": [""]}),
        ("/embed", {"texts": ["x"] * 513}),
        ("/embed", {"texts": ["\ud800"]}),
        ("/embed", {"texts": ["x"], "kind": "other"}),
        ("/embed", {"texts": ["x"], "surprise": 1}),
        ("/score", {"prompt": "", "continuations": ["x"]}),
        ("/score", {"prompt": "x", "continuations": []}),
        ("/score", {"prompt": "x", "continuations": [""]}),
        ("/score", {"prompt": "x", "continuations": ["y"], "model": "ollama/"}),
        ("/score", {"prompt": "x", "continuations": ["y"]}),  # this generator has no engine
    ],
)
def test_bad_requests_are_refused(client: TestClient, path: str, body: dict[str, object]) -> None:
    reply = client.post(path, content=json.dumps(body), headers={"Content-Type": "application/json"})
    assert reply.status_code in (404, 422) and reply.json()["error"]["message"]


@pytest.mark.weights
@pytest.mark.skipif(
    not all((find_home() / "models" / name).is_dir() for name in NEEDED),
    reason=f"weights missing: python -m model pull {' '.join(NEEDED)}",
)
def test_with_the_real_weights(tmp_path: Path) -> None:
    real = find_home()
    shelves = Shelves(tmp_path, "default", IngestSettings(workers=1), lambda name: find_embedder(name, real))
    app = create_app(ServiceSettings(), tmp_path, shelves, wiring.own(NEEDED[0], real))
    engine = app.state.parts.models.choose(None).get().engine
    turns = [{"role": "user", "content": "What is the capital of France?"}]
    going = engine.generate(engine.prompt(turns), Sampling(max_tokens=24))
    said = "".join(token.text for token in going)
    with (
        serving(app) as address,
        openai.OpenAI(base_url=f"{address}/v1", api_key="none", timeout=120) as client,
    ):
        until(lambda: app.state.parts.readiness.wait(0.1), 120)
        reply = client.chat.completions.create(
            model=NEEDED[0],
            messages=turns,  # type: ignore[arg-type]
            max_tokens=24,
        )
        assert said and reply.choices[0].message.content == said.lstrip() and reply.usage
        assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (
            going.prompt_tokens,
            going.completion_tokens,
        )
        vectors = np.array(
            [
                d.embedding
                for d in client.embeddings.create(
                    model=NEEDED[1],
                    input=["How tall is the tower?", "The tower's height", "A recipe for bread"],
                ).data
            ]
        )
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3)
        assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2]
        scored = client.post(
            f"{address}/score",
            cast_to=object,
            body={"prompt": "The capital of France is", "continuations": [" Paris", " Rome"]},
        )
        paris, rome = (r["logprob"] for r in scored["results"])  # type: ignore[index]
        assert paris > rome
