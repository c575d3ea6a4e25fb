"""Embedders of other programs, over a stand-in that speaks both wires; the oracle is the stand-in's own vectors."""

from __future__ import annotations

import math
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from ingest.__main__ import main
from ingest.embed import find_embedder
from ingest.embed.finding import embedder_named
from ingest.embed.ollama import OllamaEmbedder
from ingest.embed.openai import OpenAIEmbedder
from ingest.embed.server import TRIES, Prefixes, ServerEmbedder, estimated_tokens, prefixes_of
from ingest.errors import EmbedderAway, EmbedderError
from ingest.settings import IngestSettings, find_home
from tests.fakes import HashEmbedder
from tests.ingest.embedding_stand_in import EmbeddingStandIn, embedding_stand_in

TEXTS = ["The tortoise lives in the garden.", "乌龟住在花园里。", "", "short", "rivers and stones " * 12]
PREFIXES = Prefixes("query: ", "passage: ")
ROOT = Path(__file__).resolve().parents[2]
Make = Callable[..., ServerEmbedder]


@pytest.fixture
def server() -> Iterator[EmbeddingStandIn]:
    with embedding_stand_in() as stand_in:
        yield stand_in


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    slept: list[float] = []
    monkeypatch.setattr("ingest.embed.server.time.sleep", slept.append)
    return slept


def over_ollama(address: str, model: str = "tiny", prefixes: Prefixes | None = PREFIXES) -> ServerEmbedder:
    return OllamaEmbedder(model, address, prefixes)


def over_openai(address: str, model: str = "tiny", prefixes: Prefixes | None = PREFIXES) -> ServerEmbedder:
    return OpenAIEmbedder(model, [f"http://{address}/v1"], "secret", prefixes)


@pytest.fixture(params=[over_ollama, over_openai])
def make(request: pytest.FixtureRequest) -> Make:
    made: Make = request.param
    return made


def test_vectors_are_the_servers_at_unit_length_in_the_order_of_the_texts(
    make: Make, server: EmbeddingStandIn
) -> None:
    embedder, truth = make(server.address), HashEmbedder()
    for encode, before in ((embedder.encode_passages, "passage: "), (embedder.encode_queries, "query: ")):
        expected = truth.encode_queries([before + text for text in TEXTS])
        assert encode(TEXTS) == pytest.approx(expected, abs=1e-6)
        assert encode([]).shape == (0, truth.dimension)
    assert (embedder.dimension, embedder.max_tokens) == (truth.dimension, server.window)
    if make is over_openai:
        assert set(server.keys) == {"Bearer secret"}


def test_batches_are_filled_and_hold_texts_of_like_length(make: Make, server: EmbeddingStandIn) -> None:
    embedder = make(server.address)
    texts = ["word " * (1 + 7 * n % 40) for n in range(100)]
    embedder.encode_passages(texts)
    batches = server.asked[1:]  # the first request asks for the dimension
    assert [len(batch) for batch in batches] == [32, 32, 32, 4]
    lengths = [len(text) for batch in batches for text in batch]
    assert lengths == sorted(lengths, reverse=True)


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_server_that_fails_is_asked_again_and_not_for_ever(
    make: Make, server: EmbeddingStandIn, waits: list[float], status: int
) -> None:
    embedder = make(server.address)
    assert embedder.dimension
    server.asked.clear()
    server.failures = [status] * (TRIES - 1)
    assert embedder.encode_queries(["word"]).shape == (1, embedder.dimension)
    assert len(server.asked) == TRIES and waits == [0.5, 1.0]
    server.failures = [status] * 10
    with pytest.raises(EmbedderAway, match="failed"):
        embedder.encode_queries(["word"])
    assert len(server.asked) == 2 * TRIES


def test_a_refusal_is_told_and_not_repeated(make: Make, server: EmbeddingStandIn) -> None:
    embedder = make(server.address)
    assert embedder.dimension
    server.asked.clear()
    server.failures = [400]
    with pytest.raises(EmbedderError, match="context length") as told:
        embedder.encode_queries(["word"])
    assert len(server.asked) == 1 and not isinstance(told.value, EmbedderAway)


def test_a_server_that_is_away_is_named(make: Make) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    embedder = make(address)
    for use in (lambda: embedder.id, lambda: embedder.max_tokens, lambda: embedder.encode_queries(["a"])):
        with pytest.raises(EmbedderAway, match=address):
            use()


def test_a_model_that_the_server_lacks_is_named(make: Make, server: EmbeddingStandIn) -> None:
    embedder = make(server.address, "other")
    with pytest.raises(EmbedderError, match="'other'"):
        _ = embedder.id


def test_what_is_no_vector_is_refused(make: Make, server: EmbeddingStandIn) -> None:
    embedder = make(server.address)
    assert embedder.dimension == 32
    spoilt = {
        "no numbers": lambda rows: [[math.nan] * 32, *rows[1:]],
        "1 vectors of 2": lambda rows: rows[1:],
        "31 numbers": lambda rows: [row[1:] for row in rows],
    }
    for told, spoil in spoilt.items():
        server.spoil = spoil
        with pytest.raises(EmbedderError, match=told):
            embedder.encode_passages(["a", "b"])


def test_the_fingerprint_follows_what_decides_a_vector(
    server: EmbeddingStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    for made in (over_ollama, over_openai):
        ids = {
            made(server.address, prefixes=p).id for p in (PREFIXES, PREFIXES, Prefixes(), Prefixes("query: "))
        }
        assert len(ids) == 3
    embedder = over_ollama(server.address)
    first = embedder.id
    server.digest = "sha256:" + "b" * 64
    assert embedder.id == first, "asked once a minute, not at every search"
    monkeypatch.setattr("ingest.embed.ollama.DIGEST_HOLDS_S", -1.0)
    assert embedder.id != first
    narrow = over_openai(server.address).id
    server.vectors = HashEmbedder(16)
    assert over_openai(server.address).id != narrow


def test_the_first_server_that_serves_the_model_is_asked(server: EmbeddingStandIn) -> None:
    embedder = OpenAIEmbedder("tiny", ["http://127.0.0.1:1/v1", f"http://{server.address}/v1"])
    assert embedder.encode_queries(["a"]).shape == (1, 32)


def test_a_collection_is_made_searched_and_kept_apart_from_other_embedders(
    server: EmbeddingStandIn,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("LOREBASE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("OLLAMA_HOST", server.address)
    monkeypatch.setenv("LOREBASE_SERVICE_OPENAI_UPSTREAMS", f"http://{server.address}/v1")
    note = tmp_path / "note.txt"
    note.write_text("The ferry leaves at nine from the north pier.", encoding="utf-8")
    assert main([str(note), "--embedder", "ollama/tiny"]) == 0
    assert main(["search", "ferry", "--mode", "dense"]) == 0
    assert "north pier" in capsys.readouterr().out
    assert main([str(note), "--embedder", "openai/tiny"]) == 2
    assert "was made with embedder 'ollama/tiny'" in capsys.readouterr().err
    assert main(["rebuild", "--embedder", "openai/tiny"]) == 0
    server.vectors = HashEmbedder(16)  # another model under the same name
    assert main(["search", "ferry", "--mode", "dense"]) == 2
    assert "rebuild" in capsys.readouterr().err
    assert main(["search", "ferry", "--mode", "keyword"]) == 0, "words need no server"


def test_an_ingest_ends_at_once_where_the_server_is_away(
    server: EmbeddingStandIn,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Not each document after the other, with all its tries."""
    monkeypatch.setenv("LOREBASE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("OLLAMA_HOST", server.address)
    for n in range(8):
        (tmp_path / f"{n}.txt").write_text(f"note {n}", encoding="utf-8")
    embedder = OllamaEmbedder("tiny", server.address)
    monkeypatch.setattr("ingest.__main__._find", lambda name, home: embedder)
    assert embedder.dimension
    server.asked.clear()
    server.failures = [503] * 99
    assert main([str(tmp_path), "--exclude", "home"]) == 2
    assert len(server.asked) == TRIES and "failed" in capsys.readouterr().err


def test_names_say_where_an_embedder_is(tmp_path: Path) -> None:
    settings = IngestSettings()
    for name, told in (
        ("ollama/", "no model"),
        ("openai/tiny", "openai_upstreams"),
        ("onnx/nothing", "pull nothing"),
    ):
        with pytest.raises(EmbedderError, match=told):
            embedder_named(name, tmp_path, settings)
    set_by_hand = settings.model_copy(update={"server_query_prefix": "ask: "})
    named = embedder_named("ollama/nomic-embed-text:v1.5", tmp_path, set_by_hand)
    assert isinstance(named, OllamaEmbedder)
    assert named.prefixes == Prefixes("ask: ", "search_document: ")
    assert prefixes_of("intfloat/multilingual-e5-large").passage == "passage: "
    assert prefixes_of("all-minilm") == Prefixes()


@pytest.mark.weights
@pytest.mark.parametrize("name", ["multilingual-e5-small", "all-minilm-l6-v2"])
def test_the_estimate_errs_upwards(name: str) -> None:
    """Oracle: real tokenizers on the manual, in pieces of a passage's length, and on Chinese and code."""
    try:
        real = find_embedder(name, find_home())
    except EmbedderError as error:
        pytest.skip(str(error))
    texts = [p.read_text(encoding="utf-8") for p in sorted((ROOT / "docs").glob("*.md"))]
    texts.append((ROOT / "ingest" / "chunk.py").read_text(encoding="utf-8"))
    texts.append("乌龟住在花园里，长城始建于公元前七世纪。" * 40)
    pieces = [text[at : at + 800] for text in texts for at in range(0, len(text), 800)]
    extra = real.count_tokens([""])[0]  # what the model itself wants before a text
    ratios = np.array(
        [
            estimated_tokens(p) / (n - extra + 2)
            for p, n in zip(pieces, real.count_tokens(pieces), strict=True)
        ]
    )
    assert ratios.min() > 0.95 and np.quantile(ratios, 0.02) >= 1.0, np.sort(ratios)[:10]
    assert np.median(ratios) < 2.0, "far too cautious an estimate would cut passages in half"
