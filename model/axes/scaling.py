"""Rotary frequencies for a longer window than was first trained for, as transformers defines them.

Rotary positions turn pair i of a head by position * theta^(-2i/e). Read past the trained window, the slow
pairs reach angles that were never seen. Each kind lowers frequencies in another way:

    linear   all of them, by the factor (position interpolation, arXiv 2306.15595)
    dynamic  by a larger theta, as far as the text at hand is long: short texts are read as before (NTK-aware)
    llama3   slow ones by the factor, fast ones not at all, those between in part (Llama 3.1)
    yarn     the same by a ramp over the dimensions, and attention a little sharper (arXiv 2309.00071)

`dynamic` looks at the longest position of each row. Keys that are in a cache keep the angles at which they
were read, as in transformers, so a long text read in pieces is not quite the text read at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from model.axes.choices import RopeScaling, Stretch
from model.config import GPTConfig

#: Positions (r or 1, n) -> frequencies, (e / 2,) or (r, 1, 1, e / 2), and what cosines and sines are
#: multiplied by.
Stretched = Callable[[Tensor], tuple[Tensor, float]]


def stretch(config: GPTConfig) -> Stretched:
    """The frequencies of a config that has `rope_scaling`."""
    assert config.rope_scaling is not None
    return STRETCHES[config.rope_scaling.kind](config, config.rope_scaling)


def frequencies(config: GPTConfig) -> Tensor:
    """Radians a position of each pair, unstretched, (e / 2,) float32."""
    # On the CPU by name: a decoder may be made on the meta device, and these are no parameters.
    pairs = torch.arange(0, config.head_dim, 2, device="cpu", dtype=torch.float32)
    return config.rope_theta ** -(pairs / config.head_dim)


def _linear(config: GPTConfig, scaling: RopeScaling) -> Stretched:
    return _fixed(frequencies(config) / scaling.factor)


def _dynamic(config: GPTConfig, scaling: RopeScaling) -> Stretched:
    original, factor, width = scaling.original_context_length, scaling.factor, config.head_dim
    assert original is not None

    def stretched(positions: Tensor) -> tuple[Tensor, float]:
        length = (positions.amax(-1) + 1).clamp(min=original).float()[:, None, None, None]
        growth = factor * length / original - (factor - 1)
        theta = config.rope_theta * growth ** (width / max(width - 2, 1))
        pairs = torch.arange(0, width, 2, device=positions.device, dtype=torch.float32)
        return theta ** -(pairs / width), 1.0

    return stretched


def _llama3(config: GPTConfig, scaling: RopeScaling) -> Stretched:
    plain, original = frequencies(config), scaling.original_context_length
    assert original is not None
    turns = original * plain / (2 * math.pi)  # within the original window
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    kept = ((turns - low) / (high - low)).clamp(0, 1)
    return _fixed((1 - kept) * plain / scaling.factor + kept * plain)


def _yarn(config: GPTConfig, scaling: RopeScaling) -> Stretched:
    plain, original, width = frequencies(config), scaling.original_context_length, config.head_dim
    assert original is not None

    def dimension(turns: float) -> float:
        """The pair that turns so often within the original window."""
        return width * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(config.rope_theta))

    low, high = dimension(scaling.beta_fast), dimension(scaling.beta_slow)
    if scaling.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, width - 1)
    ramp = (torch.arange(width // 2, device="cpu") - low) / ((high - low) or 0.001)
    slowed = ramp.clamp(0, 1)
    height = scaling.attention_factor
    if height is None:
        height = 0.1 * math.log(scaling.factor) + 1
    return _fixed(slowed * plain / scaling.factor + (1 - slowed) * plain, height)


def _fixed(values: Tensor, height: float = 1.0) -> Stretched:
    """The same at every length; moved to another device once."""
    held = {values.device: values}

    def stretched(positions: Tensor) -> tuple[Tensor, float]:
        if positions.device not in held:
            held[positions.device] = values.to(positions.device)
        return held[positions.device], height

    return stretched


STRETCHES: dict[Stretch, Callable[[GPTConfig, RopeScaling], Stretched]] = {
    "linear": _linear,
    "dynamic": _dynamic,
    "llama3": _llama3,
    "yarn": _yarn,
}
