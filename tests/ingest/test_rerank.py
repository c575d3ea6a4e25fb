"""Reranking against transformers: the same tiny random cross-encoder, one pair at a time."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from ingest.__main__ import main
from ingest.errors import RerankerError
from ingest.rerank import DEPTH, CrossEncoderReranker, Reranked, find_reranker
from ingest.search import Searcher
from ingest.store.sqlite_faiss import SqliteFaissStore
from ingest.types import Hit
from tests.ingest.making import EMBEDDER, new_store, put
from tests.ingest.tiny_models import make_cross_encoder

SUBJECTS = ("garden", "rain", "stone", "river", "oven", "violin", "treaty", "glacier", "axle", "rent")
PASSAGES = [f"The tortoise and the {a}, number {i}.".ljust(40) for i, a in enumerate(SUBJECTS * 3)]
QUESTION = "tortoise"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_cross_encoder(tmp_path_factory.mktemp("models"))


def read_by_transformers(folder: Path, question: str, passages: list[str]) -> list[float]:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    scores = []
    with torch.no_grad():
        for passage in passages:
            pair = tokenizer(question, passage, return_tensors="pt", truncation=True, max_length=64)
            scores.append(1 / (1 + math.exp(-float(model(**pair).logits))))
    return scores


def test_scores_are_those_of_transformers_in_any_batch_and_past_the_window(folder: Path) -> None:
    passages = [*PASSAGES, "a", PASSAGES[0] * 20]
    expected = read_by_transformers(folder, QUESTION, passages)
    assert max(expected) - min(expected) > 0.05, "the oracle must tell the passages apart"
    assert CrossEncoderReranker.load(folder).scores(QUESTION, passages) == pytest.approx(expected, abs=1e-4)
    assert CrossEncoderReranker.load(folder).scores(QUESTION, []) == []


def test_reranked_hits_are_the_first_of_the_search_in_the_cross_encoders_order(
    folder: Path, tmp_path: Path
) -> None:
    with new_store(tmp_path) as store:
        put(store, "a.md", "".join(PASSAGES))
        searcher = Searcher(store, EMBEDDER)
        deep = searcher.search(QUESTION, DEPTH, "hybrid").hits
        read = [f"{' > '.join((hit.title, *hit.heading_path))}\n{hit.text}" for hit in deep]
        scores = dict(
            zip((hit.chunk_id for hit in deep), read_by_transformers(folder, QUESTION, read), strict=True)
        )
        result = Reranked(searcher, CrossEncoderReranker.load(folder)).search(QUESTION, 4)
    best = sorted(deep, key=lambda hit: -scores[hit.chunk_id])[:4]
    assert [hit.chunk_id for hit in result.hits] == [hit.chunk_id for hit in best]
    assert [hit.chunk_id for hit in result.hits] != [hit.chunk_id for hit in deep[:4]]
    assert [hit.score for hit in result.hits] == pytest.approx(
        [scores[hit.chunk_id] for hit in best], abs=1e-4
    )
    unscored: list[Hit] = [replace(hit, score=0.0) for hit in best]
    assert [replace(hit, score=0.0) for hit in result.hits] == unscored


def test_the_command_line_shows_the_cross_encoders_order(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("ingest.__main__._find", lambda name, home: EMBEDDER)
    monkeypatch.setenv("LOREBASE_HOME", str(tmp_path))
    with SqliteFaissStore.open(tmp_path / "collections" / "default", create=True) as store:
        put(store, "a.md", "".join(PASSAGES))
        expected = Reranked(Searcher(store, EMBEDDER), CrossEncoderReranker.load(folder)).search(QUESTION, 4)
    assert main(["search", QUESTION, "-k", "4", "--rerank", str(folder), "--json"]) == 0
    shown = [json.loads(line) for line in capsys.readouterr().out.splitlines()][:-1]
    assert [hit["text"] for hit in shown] == [hit.text for hit in expected.hits]


def test_what_is_no_reranker_is_told_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(RerankerError, match="not installed"):
        find_reranker("cross-encoder/nowhere", tmp_path)
    classes = CrossEncoderReranker.load(make_cross_encoder(tmp_path / "three", labels=3))
    with pytest.raises(RerankerError, match="3 classes"):
        classes.scores("a", ["b"])
    (tmp_path / "three" / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(RerankerError, match="cannot be loaded"):
        CrossEncoderReranker.load(tmp_path / "three").scores("a", ["b"])


def test_a_hub_id_is_looked_up_among_the_installed_models(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "tiny-reader").symlink_to(folder)
    assert find_reranker("somebody/Tiny-Reader", tmp_path).folder == tmp_path / "models" / "tiny-reader"
