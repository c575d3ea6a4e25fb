"""Peak memory of attention against length: the definition, which makes the n x n table, and the decoder's path.

    python -m benchmarks.attention_memory [--lengths 256 512 1024 2048 4096 8192] [--out FILE.png]

Claim: what torch's attention takes beside its input grows with the length, the definition's with its square.
One layer of SmolLM2's shape (9 heads, 3 key-value heads, 64 elements) reads one row in float32. On a CPU the
figure is the growth of the process's peak resident memory (Linux), on CUDA torch's own count.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.measure import memory_mb
from model.attention import naive
from model.gpt import Span, attend
from model.memory import give_back

HEADS, GROUPS, WIDTH = 9, 3, 64
#: A longer table than this, in MB, is not made: the machine may not have it.
MOST_MB = 2000.0
SPAN = Span(None, None, causal=True, cache=None)
WAYS: dict[str, Callable[[Tensor, Tensor, Tensor], object]] = {
    "definition": naive,
    "scaled_dot_product_attention": lambda q, k, v: attend(q, k, v, SPAN),
}


def peak_mb(way: Callable[[Tensor, Tensor, Tensor], object], length: int, device: torch.device) -> float:
    """MB that one call takes beside its input."""
    shapes = ((1, HEADS, length, WIDTH), (1, GROUPS, length, WIDTH), (1, GROUPS, length, WIDTH))
    q, k, v = (torch.randn(shape, device=device) for shape in shapes)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        way(q, k, v)
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    give_back()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # forget the peak so far: proc(5)
    before = memory_mb("VmRSS")
    way(q, k, v)
    return max(memory_mb("VmHWM") - before, 0.0)


def draw(found: dict[str, dict[int, float]], where: str, file: Path) -> None:
    """Both ways over the length, logarithmic on both axes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.5, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for (way, peaks), colour in zip(found.items(), ("#b5442e", "#3b6ea5"), strict=True):
        axes.plot(list(peaks), list(peaks.values()), "o-", color=colour, label=way)
    axes.set(xscale="log", yscale="log", xlabel="tokens", ylabel="MB beside the input")
    axes.set_title(f"Peak memory of one layer's attention, float32, {where}", fontsize=10)
    lengths = sorted({length for peaks in found.values() for length in peaks})
    axes.set_xticks(lengths, [str(length) for length in lengths])
    axes.minorticks_off()
    axes.grid(alpha=0.25)
    axes.legend()
    figure.savefig(file, dpi=120)


@torch.inference_mode()
def main() -> None:
    """Measure, print a table and a JSON line, and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--lengths", type=int, nargs="+", default=[256, 512, 1024, 2048, 4096, 8192])
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("attention_memory.png"))
    args = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    found: dict[str, dict[int, float]] = {way: {} for way in WAYS}
    for way in WAYS.values():
        peak_mb(way, min(args.lengths), device)  # what is loaded at the first call counts for nobody
    print(f"{'tokens':>8}" + "".join(f"{way:>32}" for way in WAYS), flush=True)
    for length in sorted(args.lengths):
        for name, way in WAYS.items():
            if name != "definition" or 4 * HEADS * length**2 / 2**20 < MOST_MB:
                found[name][length] = peak_mb(way, length, device)
        row = [f"{found[way][length]:.1f} MB" if length in found[way] else "not made" for way in WAYS]
        print(f"{length:>8}" + "".join(f"{cell:>32}" for cell in row), flush=True)
    where = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    draw(found, where, args.out)
    print(json.dumps({"benchmark": "attention_memory", "where": where, "peak_mb": found}))


if __name__ == "__main__":
    main()
