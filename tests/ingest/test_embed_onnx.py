"""Embedders as int8 graphs, beside the weights that they were made of."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ingest.embed import SentenceTransformerEmbedder
from ingest.embed.onnx import OnnxEmbedder
from ingest.errors import EmbedderError
from tests.ingest.tiny_models import TEXTS


@pytest.fixture(scope="session")
def converted(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> OnnxEmbedder:
    pytest.importorskip("onnx", reason="converting needs the extra onnx")
    folder = tmp_path_factory.mktemp("onnx") / "tiny"
    shutil.copytree(tiny, folder)
    embedder = OnnxEmbedder.load(folder, name="onnx/tiny")
    embedder.convert()
    return embedder


def test_the_int8_graph_is_close_to_the_weights_it_was_made_of(converted: OnnxEmbedder, tiny: Path) -> None:
    exact = SentenceTransformerEmbedder.load(tiny, precision="float32")
    texts = [*TEXTS, "rain " * 400]  # cut at the window, as the exact one is
    for ours, theirs in (
        (converted.encode_passages, exact.encode_passages),
        (converted.encode_queries, exact.encode_queries),
    ):
        vectors = ours(texts)
        assert vectors.dtype == np.float32 and np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)
        cosines = (vectors * theirs(texts)).sum(axis=1)
        assert (cosines > 0.99).all() and not np.allclose(vectors, theirs(texts), atol=1e-6), cosines
        for row, text in enumerate(texts):  # alone as in a batch of other lengths, as far as int8 goes
            assert float(ours([text])[0] @ vectors[row]) > 0.99
    assert converted.count_tokens(texts) == exact.count_tokens(texts)
    assert (converted.dimension, converted.max_tokens) == (exact.dimension, exact.max_tokens)
    assert converted.id != exact.id and converted.id == OnnxEmbedder.load(converted.folder).id
    assert sorted(p.name for p in converted.file.parent.iterdir()) == ["int8.onnx"], "nothing is left behind"


def test_a_damaged_graph_is_an_embedder_error_and_torch_is_not_needed(
    converted: OnnxEmbedder, tmp_path: Path
) -> None:
    code = """
import sys, socket
def refuse(*a, **k): raise AssertionError("a connection was tried")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
from ingest.embed.onnx import OnnxEmbedder
print(OnnxEmbedder.load(sys.argv[1]).encode_queries(["text"]).shape, "torch" in sys.modules, "onnx" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(converted.folder)],
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split("\n")[0] == "(1, 32) False False"
    copy = tmp_path / "copy"
    shutil.copytree(converted.folder, copy)
    (copy / "onnx" / "int8.onnx").write_bytes(converted.file.read_bytes()[:1000])
    with pytest.raises(EmbedderError, match="Delete it"):
        OnnxEmbedder.load(copy).encode_queries(["text"])


def test_a_conversion_that_fails_says_why_and_leaves_nothing(tiny: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="converting needs the extra onnx")
    from ingest.embed.convert import convert

    target = tmp_path / "onnx" / "int8.onnx"
    with pytest.raises(EmbedderError, match=r"cannot be converted.*'tiny', the same weights"):
        convert(tmp_path / "no such folder", target, "onnx/tiny")
    assert list(target.parent.iterdir()) == []
    with pytest.raises(EmbedderError, match="permission to write"):
        convert(tiny, tmp_path / "no" / "folder" / "int8.onnx", "onnx/tiny")


def test_without_the_packages_to_convert_the_command_is_named(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny, copy)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EmbedderError, match=r"lorebase\[onnx\]"):
        OnnxEmbedder.load(copy, name="onnx/tiny").convert()
