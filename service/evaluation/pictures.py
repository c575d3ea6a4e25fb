"""The report's curves as inline SVG: they take the page's colours, light or dark, and print sharply.

Every text in the markup is escaped. A mode has the same colour everywhere, by its place in the report (`s0`,
`s1`, ... in the style sheet).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

COLOURS = 8
LEFT, TOP, WIDTH, HEIGHT = 46.0, 12.0, 330.0, 240.0


@dataclass(frozen=True, slots=True)
class Curve:
    """One line of a chart; coordinates from 0 to 1."""

    name: str
    colour: int
    x: Sequence[float]
    y: Sequence[float]
    sizes: Sequence[float] = ()  #: of dots, 0 to 1; none: a plain line


def curves(lines: Sequence[Curve], title: str, across: str, up: str, *, diagonal: bool = False) -> str:
    """Lines over a unit square, its axes named."""
    body = []
    for tick in range(5):
        (x, _), (_, y) = _at(tick / 4, 0), _at(0, tick / 4)
        body.append(
            f'<path class="grid" d="M{x:.1f} {TOP}V{TOP + HEIGHT}M{LEFT} {y:.1f}H{LEFT + WIDTH}"/>'
            f'<text class="tick" x="{x:.1f}" y="{TOP + HEIGHT + 16}">{25 * tick}%</text>'
            f'<text class="tick end" x="{LEFT - 6}" y="{y + 4:.1f}">{25 * tick}%</text>'
        )
    if diagonal:
        (x, y), (u, v) = _at(0, 0), _at(1, 1)
        body.append(f'<path class="diagonal" d="M{x} {y}L{u} {v}"/>')
    for line in lines:
        points = [_at(x, y) for x, y in zip(line.x, line.y, strict=True)]
        if not points:
            continue
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        dots = "".join(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{2.5 + 7 * math.sqrt(size):.1f}"/>'
            for (x, y), size in zip(points, line.sizes, strict=False)
        )
        body.append(
            f'<g class="s{line.colour % COLOURS}"><title>{escape(line.name)}</title>'
            f'<path class="line" d="M{path}"/>{dots}</g>'
        )
    body.append(
        f'<text class="axis" x="{LEFT + WIDTH / 2}" y="{TOP + HEIGHT + 34}">{escape(across)}</text>'
        f'<text class="axis" transform="translate(11 {TOP + HEIGHT / 2}) rotate(-90)">{escape(up)}</text>'
    )
    size = f"0 0 {LEFT + WIDTH + 18:.0f} {TOP + HEIGHT + 42:.0f}"
    return f'<svg viewBox="{size}" role="img" aria-label="{escape(title)}">{"".join(body)}</svg>'


def _at(x: float, y: float) -> tuple[float, float]:
    return LEFT + WIDTH * min(1.0, max(0.0, x)), TOP + HEIGHT * (1 - min(1.0, max(0.0, y)))


@dataclass(frozen=True, slots=True)
class Scale:
    """A logarithmic scale of times, from 0 to 100 (percent of a bar's length)."""

    first: int  #: powers of ten, in milliseconds
    last: int

    @classmethod
    def over(cls, times_ms: Sequence[float]) -> Scale:
        """The smallest scale of whole powers that holds these times."""
        positive = [t for t in times_ms if t > 0] or [1.0]
        first = math.floor(math.log10(min(positive)))
        return cls(first, max(first + 1, math.ceil(math.log10(max(positive)))))

    def at(self, ms: float) -> float:
        """Where a time stands."""
        place = (math.log10(max(ms, 10.0**self.first)) - self.first) / (self.last - self.first)
        return round(100 * min(1.0, place), 2)

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Places and names of the powers of ten."""
        return [(self.at(10.0**p), milliseconds(10.0**p)) for p in range(self.first, self.last + 1)]


def percent(share: float) -> str:
    """A share for people."""
    return f"{100 * share:.0f}%"


def points(difference: float) -> str:
    """A difference of two shares for people, in percentage points."""
    whole = round(100 * difference)
    return f"{whole:+d}".replace("-", "−") if whole else "0"


def milliseconds(ms: float) -> str:
    """A time for people: three figures at most."""
    if ms >= 1000:
        return f"{ms / 1000:.3g} s"
    return f"{ms:.0f} ms" if ms >= 1 else f"{ms:.2g} ms"
