"""Attention written out: the oracle of the fast ways, and what it looks at, as a picture.

`naive` is softmax(q k' / sqrt(e)) v by its definition (arXiv 1706.03762, 3.2), with the whole table of
probabilities in memory; the decoder itself never makes that table. `probabilities` reads a text with a
decoder and keeps the table of each layer and head, `draw` paints them.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from model import checkpoint
from model.axes.positions import rotate
from model.errors import ModelError
from model.gpt import GPT, Attention, Span
from model.quantized import dense
from model.tokenizer import Tokenizer

#: Most tokens of a text whose attention is drawn: beyond, labels and squares are smaller than a pixel.
MOST_TOKENS = 64
#: Inches a picture of one head is wide; fewer where there are many.
PANEL = 2.4


def naive(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Causal attention of q (r, h, n, e) over k, v (r, g, t, e); g divides h.

    Args:
        q: queries; the last of them stands at the last key's position.
        k: keys.
        v: values.
        mask: (r or 1, 1, n, t) to add to the scores, in place of the causal rule.

    Returns:
        What is mixed, (r, h, n, e), and the probabilities, (r, h, n, t), in q's dtype.
    """
    shared = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(shared, 1), v.repeat_interleave(shared, 1)
    scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    if mask is None:
        n, t = q.shape[2], k.shape[2]
        ahead = torch.ones(n, t, dtype=torch.bool, device=q.device).triu(1 + t - n)
        scores = scores.masked_fill(ahead, -math.inf)
    else:
        scores = scores + mask
    shares = scores.softmax(-1)
    return shares @ v, shares


@torch.inference_mode()
def probabilities(model: GPT, ids: Sequence[int]) -> Tensor:
    """Where each token looks, (layers, heads, n, n) float32: row i is token i, column j what it looks at.

    Raises:
        ModelError: no token, or more than can be drawn.
    """
    if not 0 < len(ids) <= MOST_TOKENS:
        raise ModelError(
            f"attention is drawn for a text of 1 to {MOST_TOKENS} tokens; this one has {len(ids)}: shorten it"
        )
    tables: list[Tensor] = []

    def keep(attention: nn.Module, given: tuple[Tensor, Span]) -> None:
        assert isinstance(attention, Attention)
        x, span = given
        q, k, v = (attention.heads(project(x)) for project in (attention.q, attention.k, attention.v))
        if span.rotation is not None:
            q, k = rotate(q, span.rotation), rotate(k, span.rotation)
        tables.append(naive(q.float(), k.float(), v.float())[1][0])

    hooks = [block.get_submodule("attn").register_forward_pre_hook(keep) for block in model.blocks]
    try:
        model(torch.tensor([list(ids)]))
    finally:
        for hook in hooks:
            hook.remove()
    return torch.stack(tables)


def draw(tables: Tensor, tokens: Sequence[str], title: str, file: Path) -> None:
    """Save a heat map a head: rows are layers, columns heads; (layers, heads, n, n).

    Raises:
        ModelError: the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    layers, heads, n, _ = tables.shape
    # All of it in a picture that a viewer still opens: 30 layers of 9 heads are 270 panels.
    panel = max(0.9, min(PANEL, 40 / layers, 30 / heads))
    figure = Figure(figsize=(panel * heads + 1.5, panel * layers + 1.2), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(layers, heads, squeeze=False)
    size = max(2.0, min(7.0, 50 * panel / max(n, 1)))
    labels = [readable(token) for token in tokens]
    for layer in range(layers):
        for head in range(heads):
            axes = grid[layer, head]
            axes.imshow(tables[layer, head].numpy(), vmin=0, vmax=1, cmap="viridis", interpolation="nearest")
            axes.set_xticks(range(n), labels if layer == layers - 1 else [], rotation=90, fontsize=size)
            axes.set_yticks(range(n), labels if head == 0 else [], fontsize=size)
            axes.tick_params(length=0)
            if layer == 0:
                axes.set_title(f"head {head}", fontsize=7)
            if head == heads - 1:
                axes.yaxis.set_label_position("right")
                axes.set_ylabel(f"layer {layer}", fontsize=7)
    figure.suptitle(title.replace("$", r"\$"), fontsize=9)
    figure.supxlabel("what is looked at", fontsize=8)
    figure.supylabel("token that looks", fontsize=8)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph")  # a character that the font lacks is drawn as a box
            figure.savefig(file, dpi=110)
    except (OSError, ValueError) as error:
        raise ModelError(f"the picture {file} cannot be written: {error}") from error


def inspect(folder: Path, text: str, file: Path) -> Path:
    """Draw what the checkpoint in `folder` looks at while it reads `text`; returns the picture's file.

    Raises:
        ModelError: no checkpoint, a tokenizer that this stack does not have, a text too long, or the disk.
    """
    loaded = checkpoint.load(folder)
    tokenizer = Tokenizer.from_file(loaded.tokenizer_file)
    ids = tokenizer.encode(text)
    with torch.device("meta"):
        model = GPT(loaded.config)
    # In float32 and by the plain decoder: this is for looking, not for speed.
    model.load_state_dict({name: dense(w, torch.float32) for name, w in loaded.weights.items()}, assign=True)
    tables = probabilities(model.eval(), ids)
    draw(tables, [tokenizer.decode([i], special=True) for i in ids], f"{folder.name}: {text}"[:120], file)
    return file


def readable(token: str) -> str:
    """A token as a label: spaces and line breaks visible, nothing that matplotlib takes for TeX."""
    shown = token.replace(" ", "\u00b7").replace("\n", "\u21b5").replace("\t", "\u21e5").replace("$", r"\$")
    return shown if len(shown) <= 12 else shown[:11] + "\u2026"
