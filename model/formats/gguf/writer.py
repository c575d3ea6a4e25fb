"""Write a native checkpoint as a GGUF file that llama.cpp and Ollama load.

Matrices are F16 or Q8_0; norms, biases and learned positions are F32, as llama.cpp wants them. A matrix whose
rows are no multiple of 32 stays F16 in a Q8_0 file. Matrices that are Q8_0 already keep their blocks. Tensors
are written one at a time, so memory holds one of them; the file appears whole or not at all.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType, LlamaFileType
from numpy.typing import NDArray

from model.checkpoint import Checkpoint
from model.config import GPTConfig
from model.errors import CheckpointError, UnsupportedModel
from model.formats.bpe import lists, pre_tokenizer_name
from model.formats.gguf.architectures import ARCHITECTURES, Architecture, heads_of, pair_order, take_rows
from model.formats.gguf.blocks import q8_0_bytes, quantize
from model.formats.gguf.layout import MAGIC
from model.formats.vocabulary import read_vocabulary
from model.layout import tensor_shapes
from model.quantized import BLOCK, Q8_0, Weight, dense
from model.tokenizer import Tokenizer

Kind = Literal["f16", "q8_0"]
FILE_TYPES = {"f16": LlamaFileType.MOSTLY_F16, "q8_0": LlamaFileType.MOSTLY_Q8_0}
EVERYWHERE: dict[str, object] = {"head": "linear", "rope_scaling": None}
#: What the axes of a decoder must be in each architecture: llama.cpp has no others.
AXES: dict[str, dict[str, object]] = {
    "llama": {"positions": "rotary", "norm": "rmsnorm", "mlp": "swiglu"},
    "qwen2": {
        "positions": "rotary",
        "norm": "rmsnorm",
        "mlp": "swiglu",
        "attention_bias": True,
        "output_bias": False,
        "mlp_bias": False,
    },
    "gpt2": {
        "positions": "learned",
        "norm": "layernorm",
        "mlp": "gelu_tanh",
        "attention_bias": True,
        "output_bias": True,
        "mlp_bias": True,
    },
}
MOST_EOS = 3  #: eos, eot, eom


def write(checkpoint: Checkpoint, file: Path, *, kind: Kind = "f16") -> Path:
    """Write `checkpoint` as one GGUF file and return its path.

    Args:
        checkpoint: a native one.
        file: appears whole or not at all; a GGUF file there is replaced, anything else is refused.
        kind: of the matrices.

    Raises:
        UnsupportedModel: axes, or a pre-tokenizer, that llama.cpp has not.
        CheckpointError: weights out of range, a tokenizer with more tokens than the model has rows, or the
            disk refused.
    """
    config = checkpoint.config
    architecture = _architecture(config)
    with _replaced(file) as new:
        writer = gguf.GGUFWriter(new, architecture.name)
        try:
            _describe(writer, checkpoint, architecture, kind)
            plan = _plan(architecture, config)
            for name, natives in plan.items():
                shape, stored = _stored(config, natives, kind)
                size = gguf.GGML_QUANT_SIZES[stored]
                n_bytes = int(np.prod(shape)) // size[0] * size[1]
                # The writer takes any dtype but uint8 for the shape in elements.
                writer.add_tensor_info(name, shape, np.dtype(np.int8), n_bytes, raw_dtype=stored)
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_ti_data_to_file()
            for name, natives in plan.items():
                parts = [_rows(checkpoint.weights[n], n, architecture, config) for n in natives]
                writer.write_tensor_data(_values(name, parts, _stored(config, natives, kind)[1]))
        finally:
            writer.close()
    return file


def _architecture(config: GPTConfig) -> Architecture:
    if config.family not in ARCHITECTURES:
        raise UnsupportedModel(
            f"a decoder of the family {config.family!r} has no form in GGUF; known are "
            f"{', '.join(ARCHITECTURES)}."
        )
    for axis, needed in (EVERYWHERE | AXES[config.family]).items():
        if (actual := getattr(config, axis)) != needed:
            raise UnsupportedModel(
                f"{axis} = {actual!r} cannot be written as GGUF: llama.cpp's {config.family} has {needed!r}. "
                f"The model runs here; for llama.cpp and Ollama train one with {axis} = {needed!r}."
            )
    if len(config.eos_ids) > MOST_EOS:
        raise UnsupportedModel(f"GGUF names at most {MOST_EOS} end tokens, the config {len(config.eos_ids)}.")
    width = config.head_dim * config.n_heads
    if config.family in ("gpt2", "qwen2") and width != config.d_model:
        raise UnsupportedModel(
            f"llama.cpp's {config.family} has heads as wide together as the model, {config.d_model}; here "
            f"they are {width} wide. The model runs here; for llama.cpp and Ollama train one "
            "without head_dim."
        )
    return ARCHITECTURES[config.family]


def _describe(
    writer: gguf.GGUFWriter, checkpoint: Checkpoint, architecture: Architecture, kind: Kind
) -> None:
    """All key-value pairs: the model's, then the tokenizer's."""
    config, metadata = checkpoint.config, checkpoint.metadata
    writer.add_type("model")
    writer.add_name(str(metadata.get("title") or checkpoint.path.name))
    if metadata.get("license"):
        writer.add_license(str(metadata["license"]))
    writer.add_file_type(FILE_TYPES[kind])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.context_length)
    writer.add_embedding_length(config.d_model)
    writer.add_block_count(config.n_layers)
    writer.add_feed_forward_length(config.d_mlp)
    writer.add_head_count(config.n_heads)
    writer.add_head_count_kv(config.n_kv_heads)
    if architecture.rotary:
        writer.add_layer_norm_rms_eps(config.norm_eps)
        writer.add_rope_freq_base(config.rope_theta)
        writer.add_rope_dimension_count(config.head_dim)
        writer.add_key_length(config.head_dim)
        writer.add_value_length(config.head_dim)
    else:
        writer.add_layer_norm_eps(config.norm_eps)
    vocabulary = read_vocabulary(checkpoint.tokenizer_file, config)
    rule = Tokenizer.from_file(checkpoint.tokenizer_file)
    tokens, kinds, merges = lists(
        vocabulary.tokens, vocabulary.added, vocabulary.spec["model"]["merges"], config.vocab_size
    )
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(
        pre_tokenizer_name(rule.pattern, rule.normal_form, str(checkpoint.tokenizer_file))
    )
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(merges)
    for add, value in zip(
        (writer.add_eos_token_id, writer.add_eot_token_id, writer.add_eom_token_id),
        config.eos_ids,
        strict=False,
    ):
        add(value)
    if config.bos_id in vocabulary.tokens:
        writer.add_bos_token_id(config.bos_id)
    if config.pad_id in vocabulary.tokens:
        writer.add_pad_token_id(config.pad_id)
    writer.add_add_bos_token(vocabulary.adds_bos)
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(False)
    if metadata.get("chat_template"):
        writer.add_chat_template(str(metadata["chat_template"]))


def _plan(architecture: Architecture, config: GPTConfig) -> dict[str, list[str]]:
    """GGUF name -> the native tensors joined in it, in the order in which they are applied."""
    plan: dict[str, list[str]] = {}
    for native in tensor_shapes(config):
        plan.setdefault(architecture.foreign(native), []).append(native)
    return plan


def _stored(
    config: GPTConfig, natives: list[str], kind: Kind
) -> tuple[tuple[int, ...], GGMLQuantizationType]:
    """Shape and type of a tensor in the file."""
    shapes = [tensor_shapes(config)[name] for name in natives]
    shape = (sum(s[0] for s in shapes), *shapes[0][1:])
    if len(shape) == 1 or natives == ["positions.weight"]:
        return shape, GGMLQuantizationType.F32
    if kind == "q8_0" and shape[1] % BLOCK == 0:
        return shape, GGMLQuantizationType.Q8_0
    return shape, GGMLQuantizationType.F16


def _rows(weight: Weight, native: str, architecture: Architecture, config: GPTConfig) -> Weight:
    heads = heads_of(native, config)
    if not architecture.interleaved or heads is None:
        return weight
    return take_rows(weight, pair_order(heads, config.head_dim))


def _values(name: str, parts: list[Weight], kind: GGMLQuantizationType) -> NDArray[np.generic]:
    """The bytes of one tensor, in the shape that they are written in."""
    if kind == GGMLQuantizationType.Q8_0:
        blocks = []
        for part in parts:
            if not isinstance(part, Q8_0):
                values = dense(part)
                _require_finite(name, values)
                part = quantize(values)  # noqa: PLW2901
            blocks.append(q8_0_bytes(part))
        return np.concatenate(blocks)
    dtype = torch.float32 if kind == GGMLQuantizationType.F32 else torch.float16
    joined = torch.cat([dense(part, dtype) for part in parts])
    _require_finite(name, joined)
    return joined.contiguous().numpy()


def _require_finite(name: str, values: torch.Tensor) -> None:
    if not bool(values.isfinite().all()):
        raise CheckpointError(
            f"{name} is not finite in {values.dtype}: a weight is broken, or too large for it; "
            "export q8_0, or a Hugging Face folder in bf16."
        )


@contextmanager
def _replaced(file: Path) -> Iterator[Path]:
    """A path to write beside `file`; when the block ends without an error it takes the place of `file`."""
    new = file.with_name(f".{file.name}.new")
    try:
        if file.exists():
            with file.open("rb") as there:
                if there.read(len(MAGIC)) != MAGIC:
                    raise CheckpointError(f"{file} exists and is no GGUF file; name another or remove it.")
        file.parent.mkdir(parents=True, exist_ok=True)
        yield new
        descriptor = os.open(new, os.O_RDWR)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        new.replace(file)
    except OSError as error:
        raise CheckpointError(
            f"{file} could not be written: {error}. Check free space and permissions."
        ) from error
    finally:
        new.unlink(missing_ok=True)
