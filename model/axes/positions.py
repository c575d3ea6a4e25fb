"""Where a token stands: added to its vector, or turned into its queries and keys.

Every entry has `place`, what is added to token vectors, and `rotation`, by which queries and keys are turned.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from model.axes import scaling
from model.axes.choices import Positions
from model.config import GPTConfig


def held_back(lengths: Tensor, width: int) -> Tensor:
    """Positions (rows, width) of padded rows: padding stands where a row's last token does.

    So the stretching of a row's rotary positions depends on its own length, and not on its neighbours'.
    """
    behind = torch.arange(width, device=lengths.device)
    return behind[None].minimum((lengths - 1).clamp(min=0)[:, None])


class LearnedPositions(nn.Embedding):
    """One trained vector a position, added to the token's (GPT-2)."""

    def __init__(self, config: GPTConfig) -> None:
        empty = torch.empty(config.context_length, config.d_model)
        super().__init__(config.context_length, config.d_model, _weight=empty)

    def place(self, x: Tensor, positions: Tensor) -> Tensor:
        """Token vectors (r, n, d) with their positions (r or 1, n) added."""
        placed: Tensor = x + self(positions)
        return placed

    def rotation(self, positions: Tensor, dtype: torch.dtype) -> None:  # noqa: ARG002
        """Nothing is rotated."""
        return


class SinusoidalPositions(nn.Module):
    """Sines and cosines of fixed wavelengths, 2 pi to 20,000 pi positions, added (arXiv 1706.03762, 3.5).

    Even elements are sines, odd ones cosines; token vectors are multiplied by sqrt(d) first (section 3.4),
    or fresh ones would vanish beside waves of height 1.
    """

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.width = config.d_model

    def place(self, x: Tensor, positions: Tensor) -> Tensor:
        """Token vectors (r, n, d) with their positions (r or 1, n) added; angles are computed in float32."""
        pairs = torch.arange(0, self.width, 2, device=x.device, dtype=torch.float32)
        angles = positions[..., None].float() * 10_000.0 ** -(pairs / self.width)
        waves = torch.stack((angles.sin(), angles.cos()), -1).flatten(-2)
        return torch.add(waves.to(x.dtype), x, alpha=math.sqrt(self.width))

    def rotation(self, positions: Tensor, dtype: torch.dtype) -> None:  # noqa: ARG002
        """Nothing is rotated."""
        return


class RotaryPositions(nn.Module):
    """Queries and keys turned by an angle that grows with position, so that scores see only distances.

    arXiv 2104.09864; stretched over a longer window where the config says so (`model.axes.scaling`).
    """

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.head_dim, self.theta = config.head_dim, config.rope_theta
        self.stretch = None if config.rope_scaling is None else scaling.stretch(config)

    def place(self, x: Tensor, positions: Tensor) -> Tensor:  # noqa: ARG002
        """Nothing is added."""
        return x

    def rotation(self, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Cosines, and sines signed for `rotate`, (r or 1, 1, n, e); angles are computed in float32."""
        pairs = torch.arange(0, self.head_dim, 2, device=positions.device, dtype=torch.float32)
        if self.stretch is None:
            angles = positions[:, None, :, None].float() * self.theta ** -(pairs / self.head_dim)
            cos, sin = angles.cos(), angles.sin()
        else:
            frequencies, height = self.stretch(positions)
            angles = positions[:, None, :, None].float() * frequencies
            cos, sin = angles.cos() * height, angles.sin() * height
        return torch.cat((cos, cos), -1).to(dtype), torch.cat((-sin, sin), -1).to(dtype)


def rotate(x: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """Turn x (r, h, n, e): elements i and i + e/2 form a pair, the order of Hugging Face checkpoints."""
    cos, signed_sin = rotation
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, -1), signed_sin)


POSITIONS: dict[Positions, type[LearnedPositions | SinusoidalPositions | RotaryPositions]] = {
    "learned": LearnedPositions,
    "sinusoidal": SinusoidalPositions,
    "rotary": RotaryPositions,
}
