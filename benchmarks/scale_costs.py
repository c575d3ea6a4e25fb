"""What a knowledge base costs as it grows: docs/scale.md's table and picture, from figures of one machine.

    python -m benchmarks.scale_costs [--core-hour 0.05] [--gb-month 0.10] [--memory-gb-month 5] [--out FILE.svg]

Nothing is measured here. Each constant below is a figure that was seen (benchmarks/results.md and log.md) or a price
that is assumed; put in your own. What it says of ten million and a billion passages is arithmetic, not a measurement.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

CORES = 2  #: of the machine that was measured
EMBEDDED_A_SECOND = 19.1  #: results.md: embedding passages, both cores
BYTES_ON_DISK = (
    5989  #: results.md: a passage of the company filings in the embedded store, text and index included
)
VECTOR_BYTES = 384 * 4  #: multilingual-e5-small: 384 dimensions of float32
CODE_BYTES = 384  #: the approximate index: one byte a dimension
EXACT_S = 0.0078 / 100_000  #: log.md: exact search of 100,000 vectors, one core, a passage
APPROXIMATE_S = 0.0022 / 100_000  #: log.md: the same with the approximate index
ANSWER_S = 1.0  #: results.md: a whole answer, both cores
SERVICE_GB = 1.48  #: results.md: 1,411 MiB resident when ready
APPROXIMATE_FROM = 100_000  #: setting approximate_from
HOURS_A_MONTH = 730
SIZES = (100_000, 1_000_000, 10_000_000, 100_000_000, 1_000_000_000)


@dataclass(frozen=True)
class Prices:
    """In US dollars; assumed."""

    core_hour: float = 0.05
    gb_month: float = 0.10
    memory_gb_month: float = 5.0


@dataclass(frozen=True)
class Cost:
    """What so many passages take."""

    passages: int
    core_hours: float  #: to embed all of them once
    disk_gb: float
    exact_gb: float  #: memory of an exact index
    approximate_gb: float  #: and of the approximate one
    exact_s: float  #: one core's time for one search
    approximate_s: float

    def once(self, prices: Prices) -> float:
        """Dollars to embed everything once."""
        return self.core_hours * prices.core_hour

    def a_month(self, prices: Prices) -> float:
        """Dollars a month to keep it: disk, and memory for the index and the service."""
        index = self.exact_gb if self.passages < APPROXIMATE_FROM else self.approximate_gb
        return self.disk_gb * prices.gb_month + (index + SERVICE_GB) * prices.memory_gb_month

    def a_thousand_questions(self, prices: Prices) -> float:
        """Dollars for the computing of a thousand questions: search and answer."""
        search = self.exact_s if self.passages < APPROXIMATE_FROM else self.approximate_s
        return 1000 * (search + ANSWER_S * CORES) / 3600 * prices.core_hour


def cost(passages: int) -> Cost:
    """All figures grow in proportion: the approximate index's search does better than that, so it is an upper bound."""
    return Cost(
        passages,
        passages / EMBEDDED_A_SECOND * CORES / 3600,
        passages * BYTES_ON_DISK / 1e9,
        passages * VECTOR_BYTES / 1e9,
        passages * CODE_BYTES / 1e9,
        passages * EXACT_S,
        passages * APPROXIMATE_S,
    )


def draw(costs: list[Cost], prices: Prices, file: Path) -> None:
    """Three panels over the number of passages: work and space, time of a search, dollars."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    mpl.rcParams["svg.hashsalt"] = "lorebase"  # the same picture from the same figures
    figure = Figure(figsize=(11, 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 3)
    x = [c.passages for c in costs]
    rows: list[list[tuple[str, list[float]]]] = [
        [
            ("core hours to embed all", [c.core_hours for c in costs]),
            ("GB on disk", [c.disk_gb for c in costs]),
            ("GB of memory, exact index", [c.exact_gb for c in costs]),
            ("GB of memory, approximate index", [c.approximate_gb for c in costs]),
        ],
        [
            ("exact", [c.exact_s for c in costs]),
            ("approximate (at most)", [c.approximate_s for c in costs]),
            ("writing the answer", [ANSWER_S * CORES for _ in costs]),
        ],
        [
            ("embed all once", [c.once(prices) for c in costs]),
            ("keep for a month", [c.a_month(prices) for c in costs]),
            ("a thousand questions", [c.a_thousand_questions(prices) for c in costs]),
        ],
    ]
    titles = ("Work and space", "Core seconds of one question", "US dollars, at assumed prices")
    for axes, lines, title in zip(panels, rows, titles, strict=True):
        for (label, y), colour in zip(lines, ("#b5442e", "#3b6ea5", "#4f8a4b", "#8a6bb0"), strict=False):
            axes.plot(x, y, "o-", label=label, color=colour, markersize=3)
        axes.set(xscale="log", yscale="log", title=title, xlabel="passages")
        axes.grid(visible=True, alpha=0.3)
        axes.legend(fontsize=7)
    figure.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--core-hour", type=float, default=Prices.core_hour)
    parser.add_argument("--gb-month", type=float, default=Prices.gb_month)
    parser.add_argument("--memory-gb-month", type=float, default=Prices.memory_gb_month)
    parser.add_argument("--out", type=Path, help="draw the picture into this file (.svg or .png)")
    options = parser.parse_args()
    prices = Prices(options.core_hour, options.gb_month, options.memory_gb_month)
    costs = [cost(size) for size in SIZES]
    print(
        "     passages  core hours    disk GB  exact GB  approx GB   exact s  approx s   $ once  $ month  $ 1000 questions"
    )
    for c in costs:
        print(
            f"{c.passages:13,} {c.core_hours:11,.1f} {c.disk_gb:10,.1f} {c.exact_gb:9,.2f} {c.approximate_gb:10,.2f}"
            f" {c.exact_s:9.4f} {c.approximate_s:9.4f} {c.once(prices):8,.2f} {c.a_month(prices):8,.2f}"
            f" {c.a_thousand_questions(prices):17,.3f}"
        )
    if options.out:
        draw(costs, prices, options.out)


if __name__ == "__main__":
    main()
