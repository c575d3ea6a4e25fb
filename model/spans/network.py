"""The upper layers with a head: a question's and a passage's states together, to where the answer stands.

    [question][passage] + segment + nearness -> the upper layers -> start, end at every piece; null at <s>

Question and passage go through the lower layers apart and meet here (arXiv 2005.00697 splits BERT in the
same way), so what the lower layers make of a passage serves every question. That the upper layers need not
learn to compare words, each piece of the passage is marked if the question has it, too, and with how near its
state comes to one of the question's (as in DrQA, arXiv 1704.00051). `null` stands beside the starts
and beside the ends and says "not here", as in BERT on SQuAD 2: a softmax over null and all places that may
be quoted.

The upper layers are trained as a whole and published in 8 bits (`model.spans.folder`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.spans.encoder import Encoder, EncoderConfig, Layer, key_mask

#: What a logit is where no span may begin or end.
NEVER = -1e4


@dataclass(frozen=True, slots=True)
class Pairs:
    """r pairs of a question and a passage, joined and right-padded."""

    states: Tensor  #: (r, n, d): the question's pieces, then the passage's
    segments: Tensor  #: (r, n) int64: 0 question, 1 passage, 2 a piece of it that the question has, too
    near: Tensor  #: (r, n) float32: greatest cosine with a piece of the question, standardised by passage
    places: Tensor  #: (r, n) bool: where a span may begin and end
    lengths: tuple[int, ...]
    #: (r, 2) int64: position of the answer's first and last piece, 0 and 0 where it is not here
    targets: Tensor | None = None

    @property
    def tokens(self) -> int:
        """Real ones, padding not counted."""
        return sum(self.lengths)

    def to(self, device: torch.device | str) -> Pairs:
        """The same on another device."""
        return replace(
            self,
            states=self.states.to(device),
            segments=self.segments.to(device),
            near=self.near.to(device),
            places=self.places.to(device),
            targets=None if self.targets is None else self.targets.to(device),
        )


@dataclass(frozen=True, slots=True)
class Side:
    """A question or a passage on its way into a pair."""

    ids: Sequence[int]
    own: Sequence[bool]  #: which pieces are its own words; where a span of a passage may begin and end
    states: Tensor  #: (n, d)


def join(questions: Sequence[Side], passages: Sequence[Side]) -> Pairs:
    """Pairs, padded to the longest."""
    lengths = tuple(len(q.ids) + len(p.ids) for q, p in zip(questions, passages, strict=True))
    rows, width = len(lengths), max(lengths)
    states = torch.zeros(rows, width, questions[0].states.shape[1], dtype=questions[0].states.dtype)
    segments = torch.zeros(rows, width, dtype=torch.int64)
    places = torch.zeros(rows, width, dtype=torch.bool)
    near = torch.zeros(rows, width)
    for i, (question, passage) in enumerate(zip(questions, passages, strict=True)):
        m, n = len(question.ids), lengths[i]
        states[i, :m], states[i, m:n] = question.states, passage.states
        places[i, m:n] = torch.tensor(passage.own)
        asked = {piece for piece, own in zip(question.ids, question.own, strict=True) if own}
        shared = [own and piece in asked for piece, own in zip(passage.ids, passage.own, strict=True)]
        segments[i, m:n] = 1 + torch.tensor(shared, dtype=torch.int64)
        near[i, m:n] = nearness(question, passage)
    return Pairs(states, segments, near, places, lengths)


def nearness(question: Side, passage: Side) -> Tensor:
    """(n,) float32: of each piece of a passage, standardised over its own pieces; 0 for the others."""
    found = torch.zeros(len(passage.ids))
    asked, own = torch.tensor(question.own), torch.tensor(passage.own)
    if asked.any() and own.sum() > 1:
        left, right = (F.normalize(x.float(), dim=1) for x in (passage.states[own], question.states[asked]))
        cosine = (left @ right.T).amax(1)
        found[own] = (cosine - cosine.mean()) / cosine.std().clamp_min(1e-6)
    return found


class SpanNet(nn.Module):
    """The trained part."""

    def __init__(self, config: EncoderConfig, layers: int) -> None:
        super().__init__()
        self.segments = nn.Embedding(3, config.width)
        self.near = nn.Linear(1, config.width, bias=False)
        self.blocks = nn.ModuleList(Layer(config) for _ in range(layers))
        self.edges = nn.Linear(config.width, 2)
        self.null = nn.Linear(config.width, 1)

    @classmethod
    def fresh(cls, encoder: Encoder, layers: int, seed: int) -> SpanNet:
        """The encoder's last `layers`, with a head that knows nothing yet; float32."""
        torch.manual_seed(seed)
        net = cls(encoder.config, layers)
        for i, block in enumerate(net.blocks):
            which = encoder.config.n_layers - layers + i
            block.load_state_dict({name: t.float() for name, t in encoder.layer(which).items()})
        for marks in (net.segments, net.near):
            nn.init.normal_(marks.weight, std=0.02)
        for part in (net.edges, net.null):
            nn.init.normal_(part.weight, std=0.02)
            nn.init.zeros_(part.bias)
        return net

    def forward(self, pairs: Pairs) -> tuple[Tensor, Tensor]:
        """Logits of starts and of ends, (r, n) float32: 0 is "not here", `NEVER` where no edge may be."""
        x = pairs.states.to(self.segments.weight.dtype) + self.segments(pairs.segments)
        x = x + self.near(pairs.near[:, :, None].to(x.dtype))
        mask = key_mask(pairs.lengths, x.shape[1])
        mask = None if mask is None else mask.to(x.device)
        for block in self.blocks:
            x = block(x, mask)
        edges = self.edges(x).float().masked_fill(~pairs.places[:, :, None], NEVER)
        null = self.null(x[:, 0]).float()
        starts, ends = (torch.cat((null, edges[:, 1:, i]), dim=1) for i in (0, 1))
        return starts, ends


def span_loss(net: SpanNet, pairs: Pairs) -> tuple[Tensor, int]:
    """Cross-entropy of start and end over places and "not here": the sum over pairs of the mean of both."""
    assert pairs.targets is not None
    starts, ends = net(pairs)
    first, last = pairs.targets.unbind(1)
    total = F.cross_entropy(starts, first, reduction="sum") + F.cross_entropy(ends, last, reduction="sum")
    return total / 2, len(first)
