"""The multilingual encoder in our own torch: word pieces to states, cut in two at a layer.

    x = LayerNorm(word + position + type)                       the embeddings
    x = LayerNorm(x + Attention(x));  x = LayerNorm(x + MLP(x)) a layer; GELU is exact

That is BERT (arXiv 1810.04805) as multilingual-e5-small has it. The lower layers read a text by itself, so
what they make of a passage can be kept; the upper ones read question and passage together
(`model.spans.network`).

Invariants: rows of a batch do not see each other; padding is never looked at.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from model.errors import CheckpointError, UnsupportedModel

#: Where a layer's parameters stand in transformers' BertModel; q, k and v are one matrix here.
PARTS = {
    "o": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "up": "intermediate.dense",
    "down": "output.dense",
    "mlp_norm": "output.LayerNorm",
}
QKV = tuple(f"attention.self.{name}" for name in ("query", "key", "value"))
#: Of the word embeddings every so many rows count for the fingerprint: all of them would take half a second.
SAMPLED = 64


@dataclass(frozen=True, slots=True)
class EncoderConfig:
    """The sizes of an encoder."""

    width: int
    n_layers: int
    n_heads: int
    d_mlp: int
    n_positions: int
    eps: float


class Layer(nn.Module):
    """Attention over a whole row, then the MLP, each with its norm behind it."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.heads = config.n_heads
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.o = nn.Linear(config.width, config.width)
        self.attention_norm = nn.LayerNorm(config.width, eps=config.eps)
        self.up = nn.Linear(config.width, config.d_mlp)
        self.down = nn.Linear(config.d_mlp, config.width)
        self.mlp_norm = nn.LayerNorm(config.width, eps=config.eps)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """(r, n, d) to (r, n, d); `mask` is (r, 1, 1, n) bool, True where a token may be looked at."""
        r, n, d = x.shape
        q, k, v = self.qkv(x).view(r, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        x = self.attention_norm(x + self.o(seen.transpose(1, 2).reshape(r, n, d)))
        out: Tensor = self.mlp_norm(x + self.down(F.gelu(self.up(x))))
        return out


class Lower(nn.Module):
    """Embeddings and the first layers; frozen.

    The word embeddings stay in the file's own half precision, mapped from the disk: of their 192 MB only the
    rows that are looked up come into memory.
    """

    def __init__(self, config: EncoderConfig, layers: int, words: Tensor, dtype: torch.dtype) -> None:
        super().__init__()
        self.words = words  # no parameter: it is neither trained nor cast
        self.dtype = dtype
        self.positions = nn.Embedding(config.n_positions, config.width)
        self.norm = nn.LayerNorm(config.width, eps=config.eps)
        self.blocks = nn.ModuleList(Layer(config) for _ in range(layers))

    @torch.inference_mode()
    def forward(self, rows: Sequence[Sequence[int]]) -> list[Tensor]:
        """States (n, d) of each row of ids, together in one batch."""
        ids, mask = padded(rows)
        x = self.words[ids].float() + self.positions.weight[: ids.shape[1]].float()
        x = self.norm(x.to(self.dtype))
        for block in self.blocks:
            x = block(x, mask)
        return [x[i, : len(row)].clone() for i, row in enumerate(rows)]


def padded(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor | None]:
    """Ids (r, n), and the mask of what is no padding; None where nothing is padded."""
    width = max(map(len, rows))
    ids = torch.zeros(len(rows), width, dtype=torch.int64)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
    return ids, key_mask([len(row) for row in rows], width)


def key_mask(lengths: Sequence[int], width: int) -> Tensor | None:
    """(r, 1, 1, width), True at the first `length` of each row; None where all are full."""
    if all(length == width for length in lengths):
        return None
    return (torch.arange(width) < torch.tensor(lengths)[:, None])[:, None, None]


@dataclass(frozen=True)
class Encoder:
    """A folder's encoder as it lies on the disk: sizes, tensors by transformers' names, tokenizer."""

    folder: Path
    config: EncoderConfig
    tensors: Mapping[str, Tensor]

    @property
    def tokenizer_file(self) -> Path:
        """For `tokenizers`."""
        return self.folder / "tokenizer.json"

    def lower(self, layers: int, dtype: torch.dtype) -> Lower:
        """Embeddings and the first `layers`, to compute in `dtype`."""
        with torch.device("meta"):
            lower = Lower(self.config, layers, self.tensors["embeddings.word_embeddings.weight"], dtype)
        state = {
            # A text is one segment, so its type's row is added once and for all.
            "positions.weight": self.tensors["embeddings.position_embeddings.weight"].float()
            + self.tensors["embeddings.token_type_embeddings.weight"][0].float(),
            "norm.weight": self.tensors["embeddings.LayerNorm.weight"],
            "norm.bias": self.tensors["embeddings.LayerNorm.bias"],
        }
        for i in range(layers):
            state |= {f"blocks.{i}.{name}": tensor for name, tensor in self.layer(i).items()}
        lower.load_state_dict({name: tensor.to(dtype) for name, tensor in state.items()}, assign=True)
        return lower.requires_grad_(False).eval()

    def layer(self, i: int) -> dict[str, Tensor]:
        """The parameters of a layer by the names of `Layer`."""
        found = {}
        for kind in ("weight", "bias"):
            parts = [self.tensors[f"encoder.layer.{i}.{name}.{kind}"] for name in QKV]
            found[f"qkv.{kind}"] = torch.cat(parts)
            for ours, theirs in PARTS.items():
                found[f"{ours}.{kind}"] = self.tensors[f"encoder.layer.{i}.{theirs}.{kind}"]
        return found

    def fingerprint(self) -> str:
        """SHA-256 over what decides a state: every layer, and a sample of the word embeddings."""
        digest = hashlib.sha256()
        for name in sorted(self.tensors):
            if name.startswith("pooler."):
                continue
            tensor = self.tensors[name]
            some = tensor[::SAMPLED] if "word_embeddings" in name else tensor
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            digest.update(some.contiguous().view(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()


def read_encoder(folder: Path) -> Encoder:
    """An encoder from a transformers or sentence-transformers folder; tensors are mapped, not copied.

    Raises:
        UnsupportedModel: another architecture.
        CheckpointError: files missing or damaged, or tensors that do not fit the config.
    """
    try:
        described = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        tensors = load_file(folder / "model.safetensors")
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"{folder} cannot be read: {error}. Pull the embedder again") from error
    if described.get("model_type") != "bert" or described.get("hidden_act") != "gelu":
        raise UnsupportedModel(
            f"{folder}: spans are read with BERT's encoder, not {described.get('model_type')!r}"
        )
    try:
        config = EncoderConfig(
            width=int(described["hidden_size"]),
            n_layers=int(described["num_hidden_layers"]),
            n_heads=int(described["num_attention_heads"]),
            d_mlp=int(described["intermediate_size"]),
            n_positions=int(described["max_position_embeddings"]),
            eps=float(described["layer_norm_eps"]),
        )
        encoder = Encoder(folder, config, tensors)
        shapes = {name: tuple(tensor.shape) for name, tensor in encoder.layer(config.n_layers - 1).items()}
        words = tensors["embeddings.word_embeddings.weight"].shape
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{folder}: a part is missing ({error}). Pull the embedder again") from error
    if shapes["up.weight"] != (config.d_mlp, config.width) or words[1] != config.width:
        raise CheckpointError(f"{folder}: tensors are not of the sizes that its config says. Pull it again")
    return encoder
