"""Pairs to learn from, with the lower layers' states on the disk, as micro-batches that can be resumed.

    texts.jsonl    a line each: ids, and which of them are the text's own words ("0" or "1" each)
    pairs.jsonl    question and passage (numbers of texts), first and last piece of the answer, or none
    states.bf16    the texts' states, one behind the other, (pieces, width) bfloat16

The frozen layers' work is done once, whatever is trained above them and for how long; whoever was interrupted
goes on behind the last text that is whole.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from model.errors import DataError
from model.spans.encoder import Lower
from model.spans.network import Pairs, Side, join

TEXTS, PAIRS, STATES = "texts.jsonl", "pairs.jsonl", "states.bf16"
#: Micro-batches that are sorted by length together.
WINDOW = 32
#: Texts that go through the lower layers at once.
AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Text:
    """Ids of a question or passage."""

    ids: tuple[int, ...]
    own: tuple[bool, ...]  #: which are its own words; in a passage, where a span may begin and end


@dataclass(frozen=True, slots=True)
class Pair:
    """A question on a passage, by their numbers among the texts."""

    question: int
    passage: int
    answer: tuple[int, int] | None  #: first and last piece within the passage; None: not here
    held: bool = False  #: validates instead of being learned from


def write(folder: Path, texts: Sequence[Text], pairs: Sequence[Pair], width: int) -> None:
    """Write texts and pairs; of states that are there, those stay whose texts still come first."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"ids": t.ids, "own": "".join("01"[own] for own in t.own)}) for t in texts]
    file, states = folder / TEXTS, folder / STATES
    former = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    same = next((i for i, (a, b) in enumerate(zip(former, lines, strict=False)) if a != b), None)
    same = min(len(former), len(lines)) if same is None else same
    if states.is_file():
        kept = 2 * width * sum(len(text.ids) for text in texts[:same])
        os.truncate(states, min(kept, states.stat().st_size))
    file.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    with (folder / PAIRS).open("w", encoding="utf-8") as out:
        for pair in pairs:
            out.write(json.dumps([pair.question, pair.passage, pair.answer, pair.held]) + "\n")


class SpanSet:
    """A folder that `write` made."""

    def __init__(self, folder: Path, width: int) -> None:
        """Read texts and pairs.

        Raises:
            DataError: a file is missing or damaged.
        """
        self.folder, self.width = folder, width
        try:
            read = [json.loads(line) for line in (folder / TEXTS).open(encoding="utf-8")]
            self.texts = [Text(tuple(t["ids"]), tuple(c == "1" for c in t["own"])) for t in read]
            self.pairs = [
                Pair(q, p, None if answer is None else (answer[0], answer[1]), held)
                for q, p, answer, held in map(json.loads, (folder / PAIRS).open(encoding="utf-8"))
            ]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{folder} is no set of spans ({error!r}); build it again") from error
        self._starts = [0, *accumulate(len(text.ids) for text in self.texts)]
        self._states: Tensor | None = None

    def fingerprint(self) -> str:
        """Of texts and pairs."""
        digest = hashlib.sha256()
        for name in (TEXTS, PAIRS):
            digest.update((self.folder / name).read_bytes())
        return digest.hexdigest()

    def compute(self, lower: Lower, tell: Callable[[int, int], None] = lambda done, of: None) -> None:  # noqa: ARG005
        """Make the states that are missing; `tell` gets the number of texts done and of all."""
        row = 2 * self.width
        file = self.folder / STATES
        there = file.stat().st_size // row if file.is_file() else 0
        done = next(i for i in range(len(self._starts) - 1, -1, -1) if self._starts[i] <= there)
        with file.open("ab") as out:
            out.truncate(self._starts[done] * row)
            while done < len(self.texts):
                # Of like length together, yet written in their order.
                some = self.texts[done : done + 16 * AT_ONCE]
                order = sorted(range(len(some)), key=lambda i: len(some[i].ids))
                made: dict[int, Tensor] = {}
                for at in range(0, len(order), AT_ONCE):
                    which = order[at : at + AT_ONCE]
                    made |= dict(zip(which, lower([some[i].ids for i in which]), strict=True))
                for i in range(len(some)):
                    out.write(made[i].to(torch.bfloat16).view(torch.int16).numpy().tobytes())
                out.flush()
                done += len(some)
                tell(done, len(self.texts))

    def states(self, text: int) -> Tensor:
        """(pieces, width) bfloat16.

        Raises:
            DataError: they were not all computed.
        """
        if self._states is None:
            rows = self._starts[-1]
            try:
                mapped = np.memmap(self.folder / STATES, np.int16, "r+", shape=(rows, self.width))
            except (OSError, ValueError) as error:
                raise DataError(f"{self.folder / STATES} is not whole ({error}); build it again") from error
            self._states = torch.from_numpy(mapped).view(torch.bfloat16)
        return self._states[self._starts[text] : self._starts[text + 1]]

    def batch(self, pairs: Sequence[Pair]) -> Pairs:
        """These pairs as one batch."""
        made = join(
            [self._side(pair.question) for pair in pairs], [self._side(pair.passage) for pair in pairs]
        )
        targets = torch.zeros(len(pairs), 2, dtype=torch.int64)
        for i, pair in enumerate(pairs):
            if pair.answer is not None:
                before = len(self.texts[pair.question].ids)
                targets[i] = torch.tensor([before + pair.answer[0], before + pair.answer[1]])
        return replace(made, targets=targets)

    def _side(self, text: int) -> Side:
        return Side(self.texts[text].ids, self.texts[text].own, self.states(text))

    def length(self, pair: Pair) -> int:
        """Pieces of question and passage."""
        return len(self.texts[pair.question].ids) + len(self.texts[pair.passage].ids)


class SpanBatches:
    """Micro-batches of pairs (a `model.train.loop.Batches`), shuffled by seed and epoch alone."""

    def __init__(self, spans: SpanSet, pairs: Sequence[Pair], size: int, seed: int) -> None:
        """`size` pairs a micro-batch, of like length."""
        self._spans, self._pairs, self._size, self._seed = spans, list(pairs), size, seed

    def steps(self, epoch: int) -> int:  # noqa: ARG002 - all are alike
        """How many micro-batches."""
        return -(-len(self._pairs) // self._size)

    def batches(self, epoch: int, start_step: int = 0) -> Iterator[Pairs]:
        """The epoch's micro-batches from one on."""
        for some in self._order(epoch)[start_step:]:
            yield self._spans.batch([self._pairs[i] for i in some])

    def _order(self, epoch: int) -> list[list[int]]:
        shuffled = sorted(range(len(self._pairs)), key=lambda i: self._hash(epoch, i))
        cut: list[list[int]] = []
        for at in range(0, len(shuffled), WINDOW * self._size):
            window = shuffled[at : at + WINDOW * self._size]
            window.sort(key=lambda i: self._spans.length(self._pairs[i]))
            pieces = [window[k : k + self._size] for k in range(0, len(window), self._size)]
            cut += sorted(pieces, key=lambda piece: self._hash(epoch, -1 - piece[0]))
        return cut

    def _hash(self, epoch: int, number: int) -> bytes:
        return hashlib.sha256(f"{self._seed} {epoch} {number}".encode()).digest()
