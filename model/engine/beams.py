"""Beam search: the likeliest reply among several that are written side by side.

Each step reads one more token of every live beam at once and keeps the likeliest continuations; those that
end are set aside with their score, the sum of log-probabilities over length to the power `length_penalty`.
The search ends when no live beam can overtake what was set aside, by the rules of transformers (5.x), whose
`early_stopping` has three values: True stops as soon as there are as many finished replies as beams, False
when the best live beam would lose if it ended now, "never" when it would lose at any length.

Invariants:

* Rows of the cache share the prompt, so only the reply's part is moved when beams change places.
* The tokens come when the search is over: nothing is certain before.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from model.engine.cache import Cache
from model.engine.generation import Generation
from model.errors import Cancelled, ModelError


@dataclass(frozen=True, slots=True)
class Beam:
    """A reply so far."""

    tokens: tuple[int, ...] = ()
    total: float = 0.0  #: sum of (penalised) log-probabilities
    logprobs: tuple[float, ...] = ()  #: of each token, before any penalty
    row: int = 0  #: of the cache, where it was read up to the last token

    def score(self, length_penalty: float) -> float:
        """What finished replies are compared by; higher is better."""
        return self.total / math.pow(len(self.tokens), length_penalty)


class BeamGeneration(Generation):
    """`Generation` of the reply that a beam search finds; the first `next` searches.

    `cache` holds the prompt afterwards, not the reply.
    """

    _found: Iterator[tuple[int, float]] | None = None

    def _choose(self) -> tuple[int, float]:
        if self._found is None:
            logits, cache = self._engine.prefill([self._prompt], cache=self.cache, cancel=self._cancel)
            if not bool(logits.logsumexp(-1).isfinite().all()):
                raise ModelError(
                    "the model's output is not a number: its weights are damaged. Pull the model again."
                )
            best = self._search(logits, cache)
            cache.truncate(self.prompt_tokens)
            self.cache = cache.copy([0])
            self._found = iter(zip(best.tokens, best.logprobs, strict=True))
        return next(self._found)

    @torch.inference_mode()
    def _search(self, logits: Tensor, cache: Cache) -> Beam:
        s, eos = self._sampling, self._engine.config.eos_ids
        candidates = max(2, 1 + len(eos)) * s.num_beams
        live, finished = [Beam()], list[Beam]()
        rows = cache.copy([0] * s.num_beams, room=min(s.max_tokens, 64))
        for length in range(1, s.max_tokens + 1):
            found = self._continued(live, logits, candidates)
            ended = [b.tokens[-1] in eos or length == s.max_tokens or self._stopped(b) for b in found]
            # Only the first `num_beams` may be set aside; the others are there to go on in their place.
            finished += [b for b, end in zip(found[: s.num_beams], ended, strict=False) if end]
            finished = sorted(finished, key=lambda b: b.score(s.length_penalty), reverse=True)[: s.num_beams]
            live = [b for b, end in zip(found, ended, strict=True) if not end][: s.num_beams]
            if not live or self._decided(live[0], finished, length):
                break
            if self._cancel is not None and self._cancel.is_set():
                raise Cancelled("generation was cancelled")
            filled = [*live, *[live[0]] * (s.num_beams - len(live))]  # stop strings may have ended too many
            rows.reorder([b.row for b in filled], start=self.prompt_tokens)
            logits = self._engine.step([b.tokens[-1] for b in filled], rows)
            live = [replace(b, row=row) for row, b in enumerate(live)]
        return finished[0]

    def _continued(self, live: Sequence[Beam], logits: Tensor, most: int) -> list[Beam]:
        """The likeliest continuations of all live beams by one token, best first; logits (beams, vocab)."""
        logprobs = logits[: len(live)].log_softmax(-1)
        weighed = torch.stack([self._penalised(b, row) for b, row in zip(live, logprobs, strict=True)])
        totals = weighed + torch.tensor([b.total for b in live])[:, None]
        best = totals.flatten().topk(min(most, totals.numel()))
        found = []
        for total, index in zip(best.values.tolist(), best.indices.tolist(), strict=True):
            row, token = divmod(index, totals.shape[1])
            said, logs = live[row].tokens, live[row].logprobs
            found.append(Beam((*said, token), total, (*logs, float(logprobs[row, token])), row))
        return found

    def _penalised(self, beam: Beam, logprobs: Tensor) -> Tensor:
        """With the repetition penalty, which transformers puts on log-probabilities where it searches."""
        penalty = self._sampling.repetition_penalty
        if penalty == 1.0:
            return logprobs
        seen = torch.tensor(sorted({*self._prompt, *beam.tokens}))
        weighed = logprobs.clone()
        weighed[seen] *= penalty  # log-probabilities are below 0: a penalty above 1 lowers them
        return weighed

    def _stopped(self, beam: Beam) -> bool:
        """Whether a stop string has been completed."""
        stop = self._sampling.stop
        return bool(stop) and any(s in self._engine.tokenizer.decode(beam.tokens) for s in stop)

    def _decided(self, best: Beam, finished: Sequence[Beam], length: int) -> bool:
        """Whether nothing can change any more; `best` is the likeliest live beam, `length` tokens long."""
        s = self._sampling
        if len(finished) < s.num_beams:
            return False
        if s.early_stopping is True:
            return True
        hoped = s.max_tokens if s.early_stopping == "never" and s.length_penalty > 0 else length
        return best.total / math.pow(hoped, s.length_penalty) <= finished[-1].score(s.length_penalty)
