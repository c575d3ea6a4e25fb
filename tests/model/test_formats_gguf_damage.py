"""Damaged GGUF files: every false figure is refused by name, or what is read is what `gguf` itself reads."""

from __future__ import annotations

import struct
from collections import Counter
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.errors import CheckpointError, ModelError
from model.formats import Foreign
from model.formats import gguf as reader
from model.formats.gguf.architectures import ARCHITECTURES
from model.quantized import dense
from tests.model import tiny
from tests.model.test_formats_gguf import MIXED, TOKENS, interleaved, write


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    write(path, tiny.config(n_layers=1, vocab_size=len(TOKENS)), MIXED)
    return path.read_bytes()


#: Bytes behind the last tensor that only fill its place up.
PADDING = 32


def header_end(data: bytes) -> int:
    return data.index(b"blk.0.ffn_down.weight") + 200


def agrees_with_gguf(path: Path, found: Foreign) -> None:
    """What was read is what the `gguf` package finds in the same bytes: no figure was passed over."""
    file = gguf.GGUFReader(path)
    architecture = ARCHITECTURES["llama"]
    assert {architecture.native(tensor.name) for tensor in file.tensors} == found.weights.keys()
    for tensor in file.tensors:
        native = architecture.native(tensor.name) or ""
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        if native.endswith(("attn.q.weight", "attn.k.weight")):
            order = interleaved(np.arange(len(values))[:, None], len(values) // found.config.head_dim)[:, 0]
            values = values[np.argsort(order)]
        assert np.array_equal(dense(found.weights[native]).float().numpy(), values, equal_nan=True), native
    said = {key.removeprefix("llama."): field.contents() for key, field in file.fields.items()}
    config = found.config
    assert (config.n_layers, config.d_model, config.d_mlp, config.n_heads, config.context_length) == tuple(
        said[key]
        for key in (
            "block_count",
            "embedding_length",
            "feed_forward_length",
            "attention.head_count",
            "context_length",
        )
    )
    assert config.vocab_size == len(said["tokenizer.ggml.tokens"])
    assert set(config.eos_ids) == {said.get("tokenizer.ggml.eos_token_id", -1)} - {-1}


def test_no_false_figure_escapes_the_error_tree(
    tmp_path_factory: pytest.TempPathFactory, whole: bytes
) -> None:
    """Bytes and eight-byte figures of the header replaced, or the file cut: refused with its name, or read right."""
    end = header_end(whole)
    path = tmp_path_factory.getbasetemp() / "changed.gguf"
    outcomes: Counter[str] = Counter()

    @given(data=st.data())
    @settings(max_examples=150, deadline=None)
    def change(data: st.DataObject) -> None:
        changed = bytearray(whole)
        for _ in range(data.draw(st.integers(0, 2))):
            at = data.draw(st.integers(0, end))
            if data.draw(st.booleans()):
                changed[at] = data.draw(st.integers(0, 255))
            else:
                figure = data.draw(st.sampled_from([0, 1, 2**31, 2**40, 2**63 - 1, 2**64 - 1]))
                changed[at : at + 8] = figure.to_bytes(8, "little")
        cut = data.draw(st.one_of(st.none(), st.integers(0, len(whole) - 1)))
        path.write_bytes(bytes(changed[:cut]))
        try:
            found = reader.read(path)
        except ModelError as error:
            assert path.name in str(error)
            outcomes["refused"] += 1
            return
        assert cut is None or cut >= len(whole) - PADDING, "a file that was cut is never read"
        agrees_with_gguf(path, found)
        outcomes["read"] += 1

    change()
    assert outcomes["refused"] > 20 and outcomes["read"] > 2, outcomes  # both were met, or this proves little


def test_every_false_figure_of_a_tensor_is_refused(tmp_path: Path, whole: bytes) -> None:
    """Its name, number of dimensions, sizes, type and offset: no change of one of them is read in silence."""
    path = tmp_path / "changed.gguf"
    for tensor in gguf.GGUFReader(_written(path, whole)).tensors:
        name = tensor.name.encode()
        at = whole.index(struct.pack("<Q", len(name)) + name) + 8
        dims_at = at + len(name)
        (dims,) = struct.unpack_from("<I", whole, dims_at)
        sizes = dims_at + 4
        kind = sizes + 8 * dims
        changes = [(at, "<B", ord("x")), (dims_at, "<I", dims + 1), (dims_at, "<I", 0), (dims_at, "<I", 9)]
        for n in range(dims):
            (size,) = struct.unpack_from("<Q", whole, sizes + 8 * n)
            changes += [(sizes + 8 * n, "<Q", other) for other in (0, size * 2, size + 32, 2**63)]
        changes += [(kind, "<I", other) for other in (4, 99, 2**31)]  # types that are not, or no longer
        changes += [(kind + 4, "<Q", other) for other in (1, 2**20, 2**63)]
        for place, form, figure in changes:
            changed = bytearray(whole)
            struct.pack_into(form, changed, place, figure)
            with pytest.raises(ModelError, match=path.name):
                reader.read(_written(path, changed))
                pytest.fail(f"{tensor.name}: {form} {figure} at {place} was read", pytrace=False)


def _written(path: Path, content: bytes) -> Path:
    path.write_bytes(bytes(content))
    return path


def test_a_truncated_file_says_so(tmp_path: Path, whole: bytes) -> None:
    path = tmp_path / "cut.gguf"
    for cut in (0, 3, 20, 500, len(whole) - 40):
        path.write_bytes(whole[:cut])
        with pytest.raises(CheckpointError):
            reader.read(path)
    with pytest.raises(CheckpointError, match="does not exist"):
        reader.read(tmp_path / "none.gguf")
