"""Embedders: one protocol for the real one and the fake; the real one against plain sentence-transformers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ingest.embed import (
    Embedder,
    SentenceTransformerEmbedder,
    batches,
    find_embedder,
)
from ingest.embed.lazy import LazyEmbedder
from ingest.errors import EmbedderError
from ingest.search import unrelated_cosine
from ingest.settings import find_home
from tests.fakes import HashEmbedder
from tests.ingest.tiny_models import TEXTS

NAMES = ("multilingual-e5-small", "all-minilm-l6-v2")


def installed(name: str) -> SentenceTransformerEmbedder:
    try:
        return find_embedder(name, find_home())
    except EmbedderError as error:
        pytest.skip(str(error))


@pytest.fixture(
    params=["hash", "tiny", *(pytest.param(n, marks=pytest.mark.weights) for n in NAMES)], scope="module"
)
def embedder(request: pytest.FixtureRequest) -> Iterator[Embedder]:
    if request.param == "hash":
        yield HashEmbedder()
    elif request.param == "tiny":
        yield SentenceTransformerEmbedder.load(request.getfixturevalue("tiny"))
    else:
        yield installed(request.param)


# What every embedder promises


def test_vectors_are_of_unit_length_in_the_order_of_the_texts(embedder: Embedder) -> None:
    for encode in (embedder.encode_passages, embedder.encode_queries):
        vectors = encode(TEXTS)
        assert vectors.shape == (len(TEXTS), embedder.dimension) and vectors.dtype == np.float32
        assert np.linalg.norm(vectors, axis=1) == pytest.approx(1.0, abs=1e-5)
        for row, text in enumerate(TEXTS):  # alone as in a batch of other lengths
            assert float(encode([text])[0] @ vectors[row]) > 0.9995
        assert encode([]).shape == (0, embedder.dimension)


def test_tokens_are_counted_with_everything_that_is_read(embedder: Embedder) -> None:
    counts = embedder.count_tokens(TEXTS)
    assert len(counts) == len(TEXTS) and counts[2] >= 0 and counts[5] > counts[4] >= counts[2]
    assert embedder.count_tokens([]) == []
    assert embedder.max_tokens > 8


def test_counts_are_the_same_before_and_after_the_model_is_loaded(tiny: Path) -> None:
    texts = ["one", "rain " * 400, "表格 and 🌧"]
    embedder = SentenceTransformerEmbedder.load(tiny)
    before = embedder.count_tokens(texts)
    embedder.encode_passages(texts)  # truncates, and from here on the tokenizer is shared
    assert embedder.count_tokens(texts) == before
    assert max(before) > embedder.max_tokens


def test_the_same_twice_is_the_same(embedder: Embedder) -> None:
    assert (embedder.encode_passages(TEXTS) == embedder.encode_passages(TEXTS)).all()
    assert embedder.id == embedder.id and embedder.id and embedder.name
    assert -1.0 <= unrelated_cosine(embedder) < 1.0


def test_threads_may_share_it(embedder: Embedder) -> None:
    expected = embedder.encode_queries(TEXTS)
    wrong: list[object] = []

    def encode() -> None:
        try:
            if not np.allclose(embedder.encode_queries(TEXTS), expected, atol=1e-3):
                wrong.append("other vectors")
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=encode) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# The real one


@pytest.mark.parametrize("name", ["tiny", *(pytest.param(n, marks=pytest.mark.weights) for n in NAMES)])
def test_vectors_and_counts_are_those_of_sentence_transformers(name: str, tiny: Path) -> None:
    """Oracle: the library at its default precision, with the prompts of its own configuration."""
    from sentence_transformers import SentenceTransformer

    ours = SentenceTransformerEmbedder.load(tiny) if name == "tiny" else installed(name)
    peer: Any = SentenceTransformer(str(ours.folder), device="cpu", local_files_only=True)
    assert ours.max_tokens == peer.max_seq_length
    for mine, theirs in (
        (ours.encode_passages, peer.encode_document),
        (ours.encode_queries, peer.encode_query),
    ):
        cosines = (mine(TEXTS) * theirs(TEXTS, normalize_embeddings=True)).sum(axis=1)
        least = [0.9999 if text else 0.999 for text in TEXTS]  # bfloat16; no text at all is the roughest
        assert (cosines > least).all(), (ours.precision, cosines)
    prompt = ours.prompt("passage")
    read = [len(peer.tokenizer(prompt + text, truncation=False)["input_ids"]) for text in TEXTS]
    assert ours.count_tokens(TEXTS) == read
    assert ours.dimension == peer.get_embedding_dimension()


def test_the_prompts_of_the_model_are_used(tiny: Path) -> None:
    embedder = SentenceTransformerEmbedder.load(tiny)
    assert (embedder.prompt("query"), embedder.prompt("passage")) == ("query: ", "passage: ")
    assert not np.allclose(embedder.encode_queries(["the"]), embedder.encode_passages(["the"]), atol=1e-3)


def test_nothing_beyond_the_window_is_read_and_everything_within_is(tiny: Path) -> None:
    embedder = SentenceTransformerEmbedder.load(tiny, precision="float32")
    full = "a " * 60
    while embedder.count_tokens([full])[0] > embedder.max_tokens:
        full = full[:-2]
    assert embedder.count_tokens([full])[0] == embedder.max_tokens == 48
    same, longer, shorter = embedder.encode_passages([full, full + "b b b", full[:-2] + "b"])
    assert np.allclose(same, longer, atol=1e-5) and not np.allclose(same, shorter, atol=1e-3)


def test_loading_in_bfloat16_leaves_the_default_of_other_threads_alone(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch has one default dtype for all threads; a language model may be loaded in another one meanwhile."""
    defaults: list[torch.dtype] = []
    change = torch.set_default_dtype

    def noted(dtype: torch.dtype) -> None:
        defaults.append(dtype)
        change(dtype)

    monkeypatch.setattr(torch, "set_default_dtype", noted)
    embedder = SentenceTransformerEmbedder.load(tiny, precision="bfloat16")
    embedder.encode_passages(TEXTS)
    assert next(embedder._model.parameters()).dtype == torch.bfloat16
    assert set(defaults) <= {torch.float32}


def test_bfloat16_is_close_and_float32_is_exact(tiny: Path) -> None:
    exact = SentenceTransformerEmbedder.load(tiny, precision="float32").encode_passages(TEXTS)
    rough = SentenceTransformerEmbedder.load(tiny, precision="bfloat16").encode_passages(TEXTS)
    assert ((exact * rough).sum(axis=1) > 0.9999).all() and not (exact == rough).all()


def test_the_id_follows_the_weights_and_not_the_place(tiny: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere"
    shutil.copytree(tiny, copy)
    first = SentenceTransformerEmbedder.load(tiny).id
    assert SentenceTransformerEmbedder.load(copy, name="other").id == first
    (copy / "manifest.json").write_text("{}")
    (copy / "README.md").write_text("words about it")
    assert SentenceTransformerEmbedder.load(copy).id == first
    changes = {
        "config_sentence_transformers.json": b"query: ",
        "model.safetensors": (copy / "model.safetensors").read_bytes()[-4:],
    }
    for name, old in changes.items():
        kept = (copy / name).read_bytes()
        (copy / name).write_bytes(kept.replace(old, bytes([old[0] ^ 1]) + old[1:]))
        assert SentenceTransformerEmbedder.load(copy).id != first, name
        (copy / name).write_bytes(kept)
    assert SentenceTransformerEmbedder.load(copy).id == first


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json", "modules.json", "config.json"])
@pytest.mark.parametrize("damage", ["missing", "truncated", "nonsense"])
def test_a_damaged_folder_is_an_embedder_error_that_says_what_to_do(
    tiny: Path, tmp_path: Path, file: str, damage: str
) -> None:
    if (file, damage) == ("modules.json", "missing"):
        pytest.skip("a folder without it is a plain transformer, pooled by the mean")
    copy = tmp_path / "damaged"
    shutil.copytree(tiny, copy)
    target = copy / file
    if damage == "missing":
        target.unlink()
    else:
        content = target.read_bytes()
        target.write_bytes(content[: len(content) // 2] if damage == "truncated" else b"\x93 nonsense" * 10)
    with pytest.raises(EmbedderError, match="ull"):
        embedder = SentenceTransformerEmbedder.load(copy)
        embedder.count_tokens(["text"])
        embedder.encode_passages(["text"])


def test_weights_that_are_no_numbers_are_refused(tiny: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    copy = tmp_path / "nan"
    shutil.copytree(tiny, copy)
    weights = load_file(copy / "model.safetensors")
    weights["embeddings.word_embeddings.weight"][:] = np.nan
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(EmbedderError, match="no numbers"):
        SentenceTransformerEmbedder.load(copy).encode_passages(["text"])


def test_pickled_weights_are_not_opened(tiny: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    copy = tmp_path / "pickle"
    shutil.copytree(tiny, copy)
    torch.save(load_file(copy / "model.safetensors"), copy / "pytorch_model.bin")
    (copy / "model.safetensors").unlink()
    with pytest.raises(EmbedderError):
        SentenceTransformerEmbedder.load(copy).encode_passages(["text"])


def test_what_is_not_installed_is_named_with_the_command(tmp_path: Path, tiny: Path) -> None:
    with pytest.raises(EmbedderError, match="python -m model pull nothing"):
        find_embedder("nothing", tmp_path)
    with pytest.raises(EmbedderError, match="no embedder"):
        SentenceTransformerEmbedder.load(tmp_path)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "tiny").symlink_to(tiny)
    assert find_embedder("tiny", tmp_path).name == "tiny"
    assert find_embedder("someone/Tiny", tmp_path).folder == tmp_path / "models" / "tiny"
    assert find_embedder(str(tiny), tmp_path).name == str(tiny)


def test_counting_needs_no_torch_and_loading_no_network(tiny: Path) -> None:
    """Own process, sockets that fail: counting imports no torch, encoding connects to nothing."""
    code = """
import socket, sys, json
def refuse(*a, **k): raise AssertionError("a connection was tried")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
from ingest.embed import SentenceTransformerEmbedder
e = SentenceTransformerEmbedder.load(sys.argv[1])
counted = [e.count_tokens(["text"]), e.max_tokens, e.dimension, len(e.id)]
light = not {"torch", "transformers", "sentence_transformers"} & set(sys.modules)
e.encode_passages(["text"])
print(json.dumps([counted, light]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tiny)],
        cwd=Path(__file__).resolve().parents[2],
        env={k: v for k, v in os.environ.items() if not k.startswith("HF_")},
        capture_output=True,
        text=True,
        check=True,
    )
    counted, light = json.loads(done.stdout)
    assert counted == [[8], 48, 32, 35] and light


def test_lazy_embedder_finds_once_and_only_when_asked() -> None:
    found: list[HashEmbedder] = []

    def find() -> HashEmbedder:
        found.append(HashEmbedder())
        return found[-1]

    lazy = LazyEmbedder(find)
    assert not found
    assert (lazy.id, lazy.name, lazy.dimension, lazy.max_tokens) == ("hash:hash:32", "hash", 32, 256)
    assert lazy.count_tokens(["a b"]) == [4]
    assert (lazy.encode_queries(["a"]) == lazy.encode_passages(["a"])).all()
    assert len(found) == 1


def test_batches_hold_every_row_once_and_stay_within_their_bounds() -> None:
    rng = np.random.default_rng(0)
    for most in (16, 256, 20_000):
        counts = [int(c) for c in rng.integers(1, 30_000, 300)]
        made = list(batches(counts, most))
        assert sorted(row for batch in made for row in batch) == list(range(300))
        for batch in made:
            width = min(max(counts[row] for row in batch), most)
            assert len(batch) <= 32 and (len(batch) == 1 or len(batch) * width <= 8192)
