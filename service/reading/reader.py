"""Reading one question in each of the passages that a search found, all of them at once.

1. Each passage is read once, up to where a question begins, and its state kept (`reading.cache`).
2. The kept states become one batch, of which only the question's few tokens are read. The first step gives
   the model's own probability that a passage does not tell.
3. Where it may tell, the reply is written, row by row of the same batch (`reading.reply`).
4. Short answers are scored once more behind the question alone, without any passage: how much less likely
   they are there is what their passage is evidence for. System turn and empty passage are a kept state, too.

Invariants:

* A passage's reading depends on the question and on this passage alone: neither on the others in the batch,
  but for rounding, nor on whether its state was kept.
* Sentences are spans of the hit's text, so of the stored document.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ingest.types import Hit, heading_prefix
from model.engine import Cache, Engine
from service.reading.cache import State, States, shared
from service.reading.form import MOST_TOKENS, passage_messages
from service.reading.readings import PassageReading, Readings
from service.reading.reply import Grammar, Reply, Text

#: Rows that are read together: past this many, products of few rows go through slower kernels.
BATCH = 8
#: Tokens of a reply that a batch has room for from the start.
ROOM = 64
#: Replies that are written, the likeliest passages first.
MOST_WRITTEN = 4
#: A passage less likely than this to tell is not heard.
LEAST_HERE = 0.03


@dataclass(slots=True)
class _Row:
    """One passage on its way."""

    hit: Hit
    rank: int
    text: Text
    shift: int  #: code points of white space in front of the passage
    prompt: list[int]
    anchor: list[int]  #: the prompt of an empty question, which names the passage
    not_here: float = 1.0
    reply: Reply | None = None
    gain: float = 0.0


class Reader:
    """Reads with one engine, whose adapter knows the reading form."""

    def __init__(
        self,
        engine: Engine,
        states: States,
        *,
        most_written: int = MOST_WRITTEN,
        least_here: float = LEAST_HERE,
    ) -> None:
        """Prepare to read.

        Args:
            engine: with the adapter that it shall use.
            states: what passages' states are kept in; may be shared by readers.
            most_written: replies at most, of which each costs a row of the batch.
            least_here: probability that a passage tells below which it is not heard.

        Raises:
            UnsupportedModel: the vocabulary cannot write the reading form.
        """
        self._engine, self._states = engine, states
        self._most_written, self._least_here = min(most_written, BATCH), least_here
        self._grammar = Grammar(engine.tokenizer, engine.config.vocab_size, engine.config.eos_ids)

    @property
    def name(self) -> str:
        """The model's name and its adapter's."""
        return self._engine.name + (f"+{self._engine.adapter}" if self._engine.adapter else "")

    @property
    def fingerprint(self) -> str:
        """The weights and the adapter that read, by their content: what a calibrator belongs to."""
        return self._engine.fingerprint

    @property
    def context_tokens(self) -> int:
        """Length of the window that each passage has to itself."""
        return self._engine.config.context_length

    def forget(self) -> None:
        """Let go of every passage's state."""
        self._states.clear()

    def read(
        self, question: str, hits: Sequence[Hit], cancel: threading.Event | None = None
    ) -> Generator[str, None, Readings]:
        """Read the question in each of these passages.

        Yields:
            The likeliest passage's words as they are written: a draft, since another may turn out better.

        Returns:
            The readings, in the order of `hits`; passages without a word, or that do not fit, are left out.

        Raises:
            Cancelled: `cancel` was set; looked at between slices and between tokens.
        """
        rows = [row for rank, hit in enumerate(hits) if (row := self._row(question, rank, hit)) is not None]
        room = self.context_tokens - MOST_TOKENS
        fitting = [row for row in rows if len(row.prompt) <= room]
        logits: list[Tensor] = []
        caches: list[Cache] = []
        cached = 0
        for start in range(0, len(fitting), BATCH):
            some = fitting[start : start + BATCH]
            before, states = zip(*(self._state(row.prompt, row.anchor, cancel) for row in some), strict=True)
            cached += sum(before)
            lengths = [shared(state.tokens, row.prompt) for state, row in zip(states, some, strict=True)]
            asked = max(len(row.prompt) - held for row, held in zip(some, lengths, strict=True))
            kept = [state.kept for state in states]
            joined = Cache.join(self._engine.config, kept, lengths, room=asked + ROOM)
            found, cache = self._engine.prefill([row.prompt for row in some], cache=joined, cancel=cancel)
            logits += self._doubt(some, found.log_softmax(-1), cache, cancel)
            caches.append(cache)
        likeliest = sorted(range(len(fitting)), key=lambda i: fitting[i].not_here)
        telling = [i for i in likeliest[: self._most_written] if fitting[i].not_here <= 1 - self._least_here]
        if telling:
            cache = _gather(caches, telling, self._engine)
            del caches
            chosen, first = [fitting[i] for i in telling], torch.stack([logits[i] for i in telling])
            yield from self._write(question, chosen, first, cache, cancel)
            self._weigh(question, chosen, cancel)
        written = [row.reply.tokens for row in fitting if row.reply is not None]
        return Readings(
            tuple(_reading(row) for row in fitting),
            prompt_tokens=sum(len(row.prompt) for row in fitting),
            cached_tokens=cached,
            completion_tokens=sum(written),
            dropped=len(rows) - len(fitting),
        )

    def _row(self, question: str, rank: int, hit: Hit) -> _Row | None:
        passage = hit.text.strip()
        if not passage:
            return None
        heading = heading_prefix(hit.title, hit.heading_path)
        prompt, anchor = (
            self._engine.prompt(passage_messages(heading, passage, asked)) for asked in (question, "")
        )
        shift = len(hit.text) - len(hit.text.lstrip())
        return _Row(hit, rank, Text.of(passage, self._grammar.vocabulary), shift, prompt, anchor)

    def _state(
        self, prompt: Sequence[int], anchor: Sequence[int], cancel: threading.Event | None
    ) -> tuple[int, State]:
        """How many of the prompt's tokens had been read before, and what is read of its passage now.

        Args:
            prompt: of the question.
            anchor: of an empty question, which names the passage.
            cancel: looked at between slices.
        """
        engine = self._engine
        known = self._states.get(*engine.voice, anchor)
        if known is not None:
            return shared(known.tokens, prompt), known
        tokens = anchor[: shared(anchor, prompt)]
        _, cache = engine.prefill([tokens], cancel=cancel)
        state = State(tuple(tokens), cache.take(0))
        self._states.put(*engine.voice, anchor, state)
        return 0, state

    def _weigh(self, question: str, rows: Sequence[_Row], cancel: threading.Event | None) -> None:
        """What each short answer gains by its passage goes into the rows.

        Both likelihoods are given that the reply is no refusal, which without a passage it would be.
        """
        answered = [row for row in rows if row.reply is not None and row.reply.answer_ids]
        if not answered:
            return
        engine, begins = self._engine, list(self._grammar.refusal)
        alone, anchor = (engine.prompt(passage_messages("", "", asked)) for asked in (question, ""))
        _, state = self._state(alone, anchor, cancel)
        cache = Cache.join(engine.config, [state.kept], [shared(state.tokens, alone)], room=len(alone))
        texts = [row.reply.answer_ids for row in answered if row.reply is not None]
        refusal, *scores = engine.score(alone, [begins, *texts], cache=cache, cancel=cancel)
        refused = min(math.exp(sum(refusal)), 1 - 1e-6)
        goes_on = min(math.exp(sum(refusal[1:])), 1 - 1e-6)
        for row, tokens, found in zip(answered, texts, scores, strict=True):
            without = sum(found) - math.log1p(-refused)
            if tokens[0] == begins[0]:
                without += math.log1p(-goes_on)
            assert row.reply is not None
            row.gain = row.reply.logprob - without / len(tokens)

    def _doubt(
        self, rows: Sequence[_Row], logprobs: Tensor, cache: Cache, cancel: threading.Event | None
    ) -> Tensor:
        """How likely each reply is a refusal goes into the rows; what is likely otherwise is returned.

        Args:
            rows: whose prompts `cache` holds, and afterwards holds again.
            logprobs: (rows, vocab_size) of the first token.
            cache: of the rows.
            cancel: looked at before each step.

        Returns:
            Log-probabilities of the first token, given that the reply is no refusal.
        """
        begins = self._grammar.refusal
        goes_on = torch.zeros(len(rows))
        for n in range(1, len(begins)):
            texts = [[*row.prompt, *begins[:n]] for row in rows]
            found, _ = self._engine.prefill(texts, cache=cache, cancel=cancel)
            goes_on += found.log_softmax(-1)[:, begins[n]]
        cache.lengths = [len(row.prompt) for row in rows]
        first = logprobs[:, begins[0]]
        refused = (first + goes_on).exp().clamp(max=1 - 1e-6)
        for row, probability in zip(rows, refused.tolist(), strict=True):
            row.not_here = probability
        open_to = logprobs.clone()
        open_to[:, begins[0]] = first + torch.log1p(-goes_on.exp().clamp(max=1 - 1e-6))
        return open_to - torch.log1p(-refused)[:, None]

    def _write(
        self,
        question: str,
        rows: Sequence[_Row],
        logprobs: Tensor,
        cache: Cache,
        cancel: threading.Event | None,
    ) -> Generator[str]:
        """Write the rows' replies, likeliest first; `logprobs` (rows, vocab_size) of their first tokens."""
        for row in rows:
            row.reply = Reply(self._grammar, row.text, question)
        open_, texts = list(rows), [list(row.prompt) for row in rows]
        shown = ""
        while True:
            going = []
            for at, row in enumerate(open_):
                assert row.reply is not None
                if tokens := row.reply.choose(logprobs[at]):
                    texts[at] += tokens
                    going.append(at)
            assert rows[0].reply is not None
            draft = rows[0].reply.draft
            if len(draft) > len(shown) and rows[0].not_here < 0.5:  # what will hardly be said is not shown
                yield draft[len(shown) :]
                shown = draft
            if not going:
                return
            if len(going) < len(open_):
                cache = cache.copy(going)
                open_, texts = [open_[at] for at in going], [texts[at] for at in going]
            found, cache = self._engine.prefill(texts, cache=cache, cancel=cancel)
            logprobs = found.log_softmax(-1)


def _gather(caches: Sequence[Cache], rows: Sequence[int], engine: Engine) -> Cache:
    """Some rows of several batches of `BATCH` rows as one batch."""
    if len(caches) == 1:
        return caches[0] if list(rows) == [*range(caches[0].rows)] else caches[0].copy(rows)
    kept = [caches[row // BATCH].take(row % BATCH) for row in rows]
    return Cache.join(engine.config, kept, [one.tokens for one in kept])


def _reading(row: _Row) -> PassageReading:
    found = PassageReading(row.hit, row.rank, row.not_here)
    reply = row.reply
    if reply is None or reply.refused:
        return found
    places = [] if reply.answer is None or reply.cut else row.text.places(reply.answer)
    inside = [
        (start, end) for start, end in places if any(a <= start and end <= b for a, b in reply.sentences)
    ]
    return replace(
        found,
        written=True,
        answer=None if reply.cut else reply.answer,
        place=next(((a + row.shift, b + row.shift) for a, b in inside or places), None),
        polar=reply.polar,
        gain=row.gain,
        sentences=tuple((start + row.shift, end + row.shift) for start, end in reply.sentences),
        logprob=reply.logprob,
    )
