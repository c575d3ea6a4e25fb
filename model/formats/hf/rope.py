"""Rotary base and stretching as `config.json` of Hugging Face spells them, old and new.

transformers 5 keeps both in `rope_parameters`; before, the base was `rope_theta` and stretching
`rope_scaling`, whose kind was first called `type`. Both spellings are read and written.

Our `context_length` is how far the decoder may read. For the kind `dynamic` their `max_position_embeddings`
is the window before stretching; ours is that times the factor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from model.axes.choices import RopeScaling, Stretch
from model.config import GPTConfig
from model.errors import CheckpointError, UnsupportedModel

#: Their key -> our field, by kind; what is absent has our default.
KEYS: dict[Stretch, dict[str, str]] = {
    "linear": {"factor": "factor"},
    "dynamic": {"factor": "factor"},
    "llama3": {
        "factor": "factor",
        "low_freq_factor": "low_freq_factor",
        "high_freq_factor": "high_freq_factor",
        "original_max_position_embeddings": "original_context_length",
    },
    "yarn": {
        "factor": "factor",
        "beta_fast": "beta_fast",
        "beta_slow": "beta_slow",
        "attention_factor": "attention_factor",
        "truncate": "truncate",
        "original_max_position_embeddings": "original_context_length",
    },
}


@dataclass(frozen=True, slots=True)
class Rotary:
    """What a config says of rotary positions."""

    theta: float
    scaling: RopeScaling | None
    context_length: int


def read(file: Path, values: dict[str, Any], *, window: int) -> Rotary:
    """Rotary settings of a `config.json`; `window` is its `max_position_embeddings`.

    Raises:
        UnsupportedModel: a kind of stretching that this decoder does not have.
        CheckpointError: values that make no sense.
    """
    theta, scaling = values.get("rope_theta"), None
    theta = 10_000.0 if theta is None else theta
    for key in ("rope_scaling", "rope_parameters"):
        rope = values.get(key)
        if rope is None:
            continue
        if not isinstance(rope, dict):
            raise UnsupportedModel(f"{file}: {key} = {rope!r} is not supported by this decoder.")
        if rope.get("partial_rotary_factor", 1.0) != 1.0:
            raise UnsupportedModel(f"{file}: partial_rotary_factor is not supported by this decoder.")
        scaling = _scaling(file, rope, window)
        theta = rope.get("rope_theta", theta)
    if isinstance(theta, bool) or not isinstance(theta, int | float) or not 0 < theta < math.inf:
        raise CheckpointError(f"{file}: rope_theta should be a number above 0, it is {theta!r}.")
    if scaling is not None and scaling.kind == "dynamic":
        window = int(window * scaling.factor)
    return Rotary(float(theta), scaling, window)


def written(config: GPTConfig) -> dict[str, Any]:
    """The keys of a `config.json` that say the same, in the old and in the new spelling."""
    scaling, window = config.rope_scaling, config.context_length
    rope: dict[str, Any] = {"rope_type": "default"}
    if scaling is not None:
        rope = {"rope_type": scaling.kind}
        rope |= {theirs: getattr(scaling, ours) for theirs, ours in KEYS[scaling.kind].items()}
        rope = {key: value for key, value in rope.items() if value is not None}
        if scaling.kind == "dynamic" and scaling.original_context_length is not None:
            window = scaling.original_context_length
    return {
        "max_position_embeddings": window,
        "rope_theta": config.rope_theta,
        "rope_scaling": None if scaling is None else dict(rope),
        "rope_parameters": rope | {"rope_theta": config.rope_theta},
    }


def _scaling(file: Path, rope: dict[str, Any], window: int) -> RopeScaling | None:
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return None
    if kind not in get_args(Stretch):
        raise UnsupportedModel(
            f"{file}: rope scaling {kind!r} is not supported by this decoder; known are {', '.join(KEYS)}."
        )
    said = {ours: rope[theirs] for theirs, ours in KEYS[kind].items() if rope.get(theirs) is not None}
    if "factor" not in said:
        raise CheckpointError(f"{file}: rope scaling {kind!r} has no factor.")
    if kind != "linear":
        said.setdefault("original_context_length", window)
    if kind == "yarn" and rope.get("mscale") and rope.get("mscale_all_dim"):
        said.setdefault("attention_factor", _ratio(rope["factor"], rope["mscale"], rope["mscale_all_dim"]))
    try:
        return RopeScaling(kind=kind, **said)
    except (CheckpointError, TypeError) as error:
        raise CheckpointError(f"{file}: {error}") from error


def _ratio(factor: float, above: float, below: float) -> float:
    """YaRN's attention factor as DeepSeek's configs spell it."""

    def height(weight: float) -> float:
        return 0.1 * weight * math.log(factor) + 1

    return height(above) / height(below)
