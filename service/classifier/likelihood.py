"""How likely the model finds each label as the reply, in nats above what it finds without a text.

    score(label) = log P(label, end of turn | examples, text) - the same for texts that say nothing

The end of the turn belongs to the label, so "card" is not favoured over "card arrival" for being its
beginning. Subtracting the content-free score takes away both the length of a label and the model's liking for
it (Zhao et al. 2021, arXiv:2102.09690). Both prompts share their beginning, which is read once and kept for
the next text; every label of the set gets a score, so the reply is always one of them.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from model.chat import END
from model.engine import Cache, Engine
from service.classifier import prompt
from service.classifier.examples import Classes, shortened
from service.classifier.kernels import Floats
from service.generators import Message

#: Tokens of examples in a prompt, of the text, and of one example.
SHOWN_TOKENS, TEXT_TOKENS, EXAMPLE_TOKENS = 1024, 256, 128
CONTENT_FREE = ("N/A", "…", "-")
#: Beginnings whose attention states are kept: 1,000 tokens of a 135M model take 46 MB.
KEPT = 2


class Likelihood:
    """The labels of one set of classes, scored by one engine."""

    def __init__(self, engine: Engine, classes: Classes) -> None:
        self._engine, self._classes = engine, classes
        count = engine.tokenizer.count
        self._flat = [(shortened(text, EXAMPLE_TOKENS, count), at) for text, at in classes.flat]
        end = engine.tokenizer.special[END]
        self._labels = [[*engine.tokenizer.encode(label), end] for label in classes.labels]
        self.cost = prompt.costs(classes, self._flat, lambda messages: len(self._ids(messages, reply=False)))
        fixed = len(self._ids([prompt.system(classes)], reply=True)) + TEXT_TOKENS + 16
        longest = max(map(len, self._labels))
        self.room = min(SHOWN_TOKENS, engine.config.context_length - fixed - longest)
        self._kept: OrderedDict[tuple[int, ...], tuple[list[int], Cache, Floats]] = OrderedDict()

    def of(self, engine: Engine, classes: Classes) -> bool:
        """Whether this one is for the same weights, adapter and classes."""
        mine = self._engine
        return (mine.model is engine.model, mine.adapter, self._classes) == (True, engine.adapter, classes)

    @property
    def fits(self) -> bool:
        """Whether there is room for the instruction and a text at all."""
        return self.room >= 0

    def shown(self, order: Sequence[int], without: int | None = None) -> tuple[int, ...]:
        """The examples that stand in the prompt of a text to which they are near in this order."""
        return prompt.chosen(order, self.cost, self.room, without=without)

    def text(self, text: str) -> str:
        """The text as it stands in the prompt."""
        return shortened(text, TEXT_TOKENS, self._engine.tokenizer.count)

    def prompt(self, text: str, shown: Sequence[int]) -> str:
        """The prompt, for people to read."""
        assert self._engine.chat is not None
        return self._engine.chat.text(self._conversation(text, shown))

    def ids(self, text: str, shown: Sequence[int]) -> list[int]:
        """The prompt as the model reads it."""
        return self._ids(self._conversation(text, shown), reply=True)

    def scores(self, text: str, shown: tuple[int, ...], cancel: threading.Event) -> Floats:
        """(labels,) nats.

        Raises:
            Cancelled: the event was set.
        """
        head, cache, prior = self._beginning(shown, cancel)
        return self._raw(text, shown, head, cache, cancel) - prior

    def _raw(
        self, text: str, shown: Sequence[int], head: list[int], cache: Cache, cancel: threading.Event
    ) -> Floats:
        ids = self.ids(text, shown)
        assert ids[: len(head)] == head
        room = len(ids) - len(head) + max(map(len, self._labels))
        found = self._engine.score(ids, self._labels, cancel=cancel, cache=cache.copy(room=room))
        return np.array([sum(tokens) for tokens in found])

    def _beginning(self, shown: tuple[int, ...], cancel: threading.Event) -> tuple[list[int], Cache, Floats]:
        """Ids in front of the text, their attention states, and the labels' scores without a text."""
        if shown not in self._kept:
            messages = prompt.prefix(self._classes, [self._flat[row] for row in shown])
            head = self._ids(messages, reply=False)
            _, cache = self._engine.prefill([head], cancel=cancel)
            # A beginning that is this text's own is used once: one content-free text has to do for it.
            empty = CONTENT_FREE if len(shown) == len(self._flat) else CONTENT_FREE[:1]
            raw = [self._raw(text, shown, head, cache, cancel) for text in empty]
            self._kept[shown] = (head, cache, np.mean(raw, axis=0))
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(shown)
        return self._kept[shown]

    def _conversation(self, text: str, shown: Sequence[int]) -> list[Message]:
        return prompt.conversation(self._classes, [self._flat[row] for row in shown], self.text(text))

    def _ids(self, messages: Sequence[Message], *, reply: bool) -> list[int]:
        if self._engine.chat is None:
            return self._engine.prompt(messages)  # raises, and says why
        return self._engine.chat.encode(messages, self._engine.tokenizer, reply=reply).ids
