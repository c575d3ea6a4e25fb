"""A preset with some of its axes changed, as flags or a file ask for it.

The fields of `ModelOptions` are settings of a command (`model.train.options`); what is not given stays as the
preset has it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from model.axes.choices import MLP, Head, Initialisation, Norm, Positions, RopeScaling
from model.config import GPTConfig
from model.errors import CheckpointError


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOptions:
    """What of a preset is changed."""

    n_layers: int | None = None
    n_heads: int | None = None
    n_kv_heads: int | None = None
    d_model: int | None = None
    head_dim: int | None = None
    d_mlp: int | None = None
    context_length: int | None = None
    positions: Positions | None = None
    rope_theta: float | None = None
    rope_scaling: str | None = None
    norm: Norm | None = None
    mlp: MLP | None = None
    head: Head | None = None
    tied_head: bool | None = None
    dropout: float | None = None
    embed_dropout: float | None = None
    attention_dropout: float | None = None
    residual_dropout: float | None = None
    initialisation: Initialisation | None = None
    scaled_residual: bool | None = None


#: For `add_options`.
HELP = {
    "n_layers": "blocks",
    "n_heads": "query heads",
    "n_kv_heads": "key-value heads; as many as query heads, or a number that divides them",
    "d_model": "width of the stream; heads and MLP keep their proportions unless they are given",
    "head_dim": "elements a head",
    "d_mlp": "width of the MLP",
    "context_length": "positions that the model is trained for",
    "positions": "how a token knows where it stands",
    "rope_theta": "base of rotary positions",
    "rope_scaling": "KIND:FACTOR[:ORIGINAL]: stretch rotary positions (linear, dynamic, llama3, yarn)",
    "norm": "what brings the stream to a common scale",
    "mlp": "activation of the MLP; the last five are gated",
    "head": "normhead: rows of length 1",
    "tied_head": "the head is the token embedding",
    "dropout": "all three of the following at once",
    "embed_dropout": "on tokens with their positions, while training",
    "attention_dropout": "on attention's probabilities, while training",
    "residual_dropout": "on what attention and MLP add, while training",
    "initialisation": "fresh weights",
    "scaled_residual": "smaller fresh weights for what adds to the stream",
}


def apply(config: GPTConfig, options: ModelOptions) -> GPTConfig:
    """`config` with what `options` change.

    A changed width keeps the proportions: heads as many as before, the MLP as many times as wide; a changed
    number of heads divides the width anew.

    Raises:
        CheckpointError: values that do not fit together; names the key.
    """
    given = {field.name: getattr(options, field.name) for field in fields(options)}
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if (share := changes.pop("dropout", None)) is not None:
        for name in ("embed_dropout", "attention_dropout", "residual_dropout"):
            changes.setdefault(name, share)
    width, heads = changes.get("d_model", config.d_model), changes.get("n_heads", config.n_heads)
    if "d_model" in changes:
        changes.setdefault("d_mlp", config.d_mlp * width // config.d_model)
    if "n_heads" in changes and config.n_kv_heads == config.n_heads:
        changes.setdefault("n_kv_heads", heads)
    if {"d_model", "n_heads"} & changes.keys() and "head_dim" not in changes:
        if heads < 1 or width % heads:
            raise CheckpointError(
                f"config: d_model {width} is not a multiple of n_heads {heads}: give head_dim"
            )
        changes["head_dim"] = width // heads
    if "rope_scaling" in changes:
        changes["rope_scaling"] = rope_scaling(changes["rope_scaling"], config.context_length)
    return replace(config, **changes)


def rope_scaling(text: str, original: int) -> RopeScaling:
    """KIND:FACTOR[:ORIGINAL]; without the last, the window before was `original`.

    Raises:
        CheckpointError: not of that form, or no such kind.
    """
    kind, *numbers = text.split(":")
    try:
        factor, *rest = (float(number) for number in numbers)
        (window,) = rest or (float(original),)
    except ValueError as error:
        raise CheckpointError(
            f"config: rope_scaling should be KIND:FACTOR[:ORIGINAL], such as yarn:4:2048; it is {text!r}"
        ) from error
    whole = None if kind == "linear" else int(window)
    return RopeScaling(kind=kind, factor=factor, original_context_length=whole)  # type: ignore[arg-type]
