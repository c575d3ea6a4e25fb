"""From logits to the next token: filters in transformers' order, then a draw from the row's own generator."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from model.config import Sampling
from model.errors import ModelError

#: Candidates that top-p looks at before it sorts the whole vocabulary; a flatter distribution than this is
#: rare.
LIKELIEST = 1024


class Sampler:
    """Chooses tokens for one row. Equal seeds, prompts and logits give equal tokens."""

    def __init__(self, sampling: Sampling, prompt: Iterable[int], vocab_size: int) -> None:
        self.sampling = sampling
        self._generator = torch.Generator()
        if sampling.seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(sampling.seed)
        self._seen: Tensor | None = None  # (vocab_size) bool
        if sampling.repetition_penalty != 1.0:
            self._seen = torch.zeros(vocab_size, dtype=torch.bool)
            self._seen[torch.tensor(list(prompt), dtype=torch.long)] = True

    def choose(self, logits: Tensor, allowed: Sequence[int] | None = None) -> tuple[int, float]:
        """The next token and its log-probability before any filter; `logits` is (vocab_size) float32.

        With `allowed`, one of these ids; the log-probability is still that among all.

        Raises:
            ModelError: the logits are not numbers, so the weights are damaged.
        """
        total = float(logits.logsumexp(-1))
        if not math.isfinite(total):
            raise ModelError(
                "the model's output is not a number: its weights are damaged. Pull the model again."
            )
        open_to = logits
        if allowed is not None:
            some = torch.tensor(allowed)
            open_to = torch.full_like(logits, -torch.inf)
            open_to[some] = logits[some]
        filtered = self.filter(open_to)
        if self.sampling.temperature == 0:
            token = int(filtered.argmax())
        else:
            # By inverting the distribution: torch.multinomial takes ten times as long on 49,152 words.
            cumulative = filtered.softmax(-1).cumsum(-1, dtype=torch.float64)
            drawn = torch.rand(1, dtype=torch.float64, generator=self._generator) * cumulative[-1]
            token = min(int(torch.searchsorted(cumulative, drawn, right=True)), len(cumulative) - 1)
        logprob = float(logits[token]) - total
        if self._seen is not None:
            self._seen[token] = True
        return token, logprob

    def filter(self, logits: Tensor) -> Tensor:
        """Penalty, temperature, top-k, top-p, min-p applied; (vocab_size), minus infinity where out."""
        s = self.sampling
        if self._seen is not None:
            penalised = torch.where(logits < 0, logits * s.repetition_penalty, logits / s.repetition_penalty)
            logits = torch.where(self._seen, penalised, logits)
        if s.temperature == 0:
            return logits
        # The likeliest at 0, so that no temperature overflows; in float32, the least of them would be 0.
        logits = (logits - logits.amax()) / max(s.temperature, torch.finfo(torch.float32).tiny)
        if 0 < s.top_k < logits.shape[0]:
            logits = logits.masked_fill(logits < logits.topk(s.top_k).values[-1], -torch.inf)
        if s.top_p < 1:
            logits = logits.masked_fill(logits < _top_p_threshold(logits, s.top_p), -torch.inf)
        if s.min_p > 0:
            logits = logits.masked_fill(logits < math.log(s.min_p), -torch.inf)
        return logits


def _top_p_threshold(logits: Tensor, top_p: float) -> Tensor:
    """The lowest logit of the fewest tokens whose probabilities sum to `top_p` (arXiv 1904.09751)."""
    probabilities = logits.softmax(-1)
    for count in (min(LIKELIEST, logits.shape[0]), logits.shape[0]):
        likeliest, at = probabilities.topk(count)
        before = likeliest.cumsum(-1) - likeliest  # what is likelier than each
        kept = max(int((before < top_p).sum()), 1)  # in float32, top_p may be 0
        if kept < count:
            break
    return logits[at[kept - 1]]
