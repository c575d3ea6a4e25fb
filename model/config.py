"""Typed, validated configuration, written into every checkpoint's `config.json`.

`GPTConfig` describes one decoder by orthogonal axes; the axes give GPT-2 (learned positions, LayerNorm,
GELU, biases) and Llama/SmolLM2 (rotary positions, RMSNorm, SwiGLU, grouped-query attention). `Sampling`
describes how to decode.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, Self

from model.errors import CheckpointError, InvalidSampling

Positions = Literal["learned", "rotary"]
Norm = Literal["layernorm", "rmsnorm"]
MLP = Literal["gelu", "gelu_tanh", "swiglu"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GPTConfig:
    """Shape of a decoder. Sizes are in elements; `head_dim * n_heads` need not equal `d_model`."""

    vocab_size: int
    context_length: int  #: positions the model was trained for
    n_layers: int
    n_heads: int
    n_kv_heads: int  #: equal to n_heads: multi-head; fewer: grouped-query attention (arXiv 2305.13245)
    d_model: int
    head_dim: int
    d_mlp: int
    positions: Positions
    norm: Norm
    mlp: MLP
    norm_eps: float
    rope_theta: float = 10_000.0  #: rotary base (arXiv 2104.09864); used where positions == "rotary"
    attention_bias: bool = False  #: biases on q, k, v
    output_bias: bool = False  #: bias on the attention output projection
    mlp_bias: bool = False
    tied_head: bool = True  #: the output head is the token embedding
    bos_id: int | None = None
    eos_ids: tuple[int, ...] = ()  #: any of these ends a reply
    pad_id: int | None = None
    family: str = "llama"  #: which checkpoint family's name table it was read with: "llama", "gpt2"

    def __post_init__(self) -> None:
        """Refuse impossible combinations."""
        positive = (
            "vocab_size",
            "context_length",
            "n_layers",
            "n_heads",
            "n_kv_heads",
            "d_model",
            "head_dim",
            "d_mlp",
        )
        for name in positive:
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise CheckpointError(f"config: {name} must be a whole number of at least 1, got {value!r}")
        if self.n_heads % self.n_kv_heads:
            raise CheckpointError(
                f"config: n_heads {self.n_heads} is not a multiple of n_kv_heads {self.n_kv_heads}"
            )
        if self.positions == "rotary" and self.head_dim % 2:
            raise CheckpointError(f"config: rotary positions need an even head_dim, got {self.head_dim}")

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return asdict(self) | {"eos_ids": list(self.eos_ids)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """From JSON form.

        Raises:
            CheckpointError: unknown or missing keys, or values that do not fit together.
        """
        known = {f.name for f in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise CheckpointError(f"config: unknown key {unknown[0]!r}; written by a newer version?")
        try:
            return cls(**(values | {"eos_ids": tuple(values.get("eos_ids", ()))}))
        except TypeError as error:
            raise CheckpointError(f"config: {error}") from error

    def kv_bytes_per_token(self, bytes_per_value: int = 2) -> int:
        """Bytes of key-value cache that one token takes."""
        return 2 * self.n_layers * self.n_kv_heads * self.head_dim * bytes_per_value


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How to choose the next token. The defaults are greedy.

    The order of operations is that of transformers: repetition penalty, temperature, top-k, top-p, min-p,
    then a draw.
    """

    max_tokens: int = 256
    temperature: float = 0.0  #: 0 is greedy, whatever else is set
    top_k: int = 0  #: 0 keeps all
    top_p: float = 1.0
    min_p: float = 0.0  #: drop tokens below min_p times the likeliest one's probability
    repetition_penalty: float = 1.0  #: arXiv 1909.05858, over prompt and reply
    stop: tuple[str, ...] = ()  #: the reply ends before the first of these
    seed: int | None = None

    def __post_init__(self) -> None:
        """Refuse values out of range, naming the parameter."""
        checks = {
            "max_tokens": (1 <= self.max_tokens <= 1_000_000, "between 1 and 1000000"),
            "temperature": (0.0 <= self.temperature <= 100.0, "between 0 and 100"),
            "top_k": (0 <= self.top_k <= 2**31 - 1, "0 (off) or more"),
            "top_p": (0.0 < self.top_p <= 1.0, "above 0, at most 1"),
            "min_p": (0.0 <= self.min_p <= 1.0, "between 0 and 1"),
            "repetition_penalty": (0.0 < self.repetition_penalty <= 100.0, "above 0, at most 100"),
            "seed": (self.seed is None or 0 <= self.seed < 2**63, "between 0 and 2^63 - 1"),
        }
        for name, (ok, allowed) in checks.items():
            if not ok:
                raise InvalidSampling(f"{name} must be {allowed}, got {getattr(self, name)}")
