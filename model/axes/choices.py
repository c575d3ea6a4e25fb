"""The names of every axis's entries, as `config.json` spells them, and how rotary positions are stretched.

Each tuple of names has its table in the module of that axis; a test holds the two together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, Literal, Self, get_args

from model.errors import CheckpointError

Positions = Literal["learned", "sinusoidal", "rotary"]
Norm = Literal["layernorm", "rmsnorm"]
MLP = Literal[
    "gelu", "gelu_tanh", "relu", "leaky_relu", "prelu", "tanh", "sigmoid",
    "swiglu", "geglu", "geglu_tanh", "reglu", "glu",
]  # fmt: skip
#: The output head: scores are products with its rows, or with its rows brought to length 1.
Head = Literal["linear", "normhead"]
Initialisation = Literal["gpt2", "xavier", "kaiming"]
Stretch = Literal["linear", "dynamic", "llama3", "yarn"]

#: MLPs with two first projections, of which one opens and closes the other (arXiv 2002.05202).
GATED: frozenset[MLP] = frozenset({"swiglu", "geglu", "geglu_tanh", "reglu", "glu"})


@dataclass(frozen=True, slots=True, kw_only=True)
class RopeScaling:
    """How rotary frequencies are stretched, so that a decoder reads more than it was first trained for.

    The kinds are those of transformers, whose names they bear.
    """

    kind: Stretch
    factor: float  #: how many times as far
    original_context_length: int | None = None  #: positions before stretching; all kinds but linear need it
    low_freq_factor: float = 1.0  #: llama3: longer waves than original / this are slowed by `factor`
    high_freq_factor: float = 4.0  #: llama3: shorter waves than original / this stay as they are
    beta_fast: float = 32.0  #: yarn: from so many turns within the original window, a frequency stays
    beta_slow: float = 1.0  #: yarn: up to so many, it is slowed by `factor`
    attention_factor: float | None = None  #: yarn: of cosines and sines; None: 0.1 ln(factor) + 1
    truncate: bool = True  #: yarn: the two bounds are rounded outwards to whole dimensions

    def __post_init__(self) -> None:
        """Refuse values out of range, naming the key."""
        one_of("rope_scaling.kind", self.kind, Stretch)
        for name in ("factor", "low_freq_factor", "high_freq_factor", "beta_fast", "beta_slow"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
                raise CheckpointError(f"config: rope_scaling.{name} must be a number above 0, got {value!r}")
        if self.factor < 1:
            raise CheckpointError(f"config: rope_scaling.factor must be at least 1, got {self.factor!r}")
        if not self.low_freq_factor < self.high_freq_factor:
            raise CheckpointError("config: rope_scaling.low_freq_factor must be below high_freq_factor")
        original = self.original_context_length
        if original is None and self.kind != "linear":
            raise CheckpointError(f"config: rope_scaling {self.kind} needs original_context_length")
        if original is not None and (
            isinstance(original, bool) or not isinstance(original, int) or original < 1
        ):
            raise CheckpointError(
                f"config: rope_scaling.original_context_length must be a whole number, got {original!r}"
            )
        wanted = self.attention_factor
        if wanted is not None and (isinstance(wanted, bool) or not 0 < wanted < math.inf):
            raise CheckpointError(f"config: rope_scaling.attention_factor must be above 0, got {wanted!r}")

    @classmethod
    def from_dict(cls, values: Any) -> Self:
        """From JSON form.

        Raises:
            CheckpointError: no object, unknown or missing keys, or values out of range.
        """
        if not isinstance(values, dict):
            raise CheckpointError(f"config: rope_scaling should be an object, it is {values!r}")
        if unknown := sorted(set(values) - {field.name for field in fields(cls)}):
            raise CheckpointError(
                f"config: unknown key rope_scaling.{unknown[0]}; written by a newer version?"
            )
        try:
            return cls(**values)
        except TypeError as error:
            raise CheckpointError(f"config: rope_scaling: {error}") from error


def one_of(key: str, value: object, choices: Any) -> None:
    """Refuse a value that is no entry of the axis.

    Raises:
        CheckpointError: names the key, the value and the entries.
    """
    if value not in get_args(choices):
        raise CheckpointError(f"config: {key} must be one of {', '.join(get_args(choices))}, got {value!r}")
