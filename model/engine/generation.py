"""One reply in progress."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self

from model.config import Sampling
from model.engine.cache import Cache
from model.engine.constrain import Constraint
from model.engine.lookup import Lookup
from model.engine.sampling import Sampler
from model.engine.text import ReplyText
from model.errors import Cancelled, ModelError

if TYPE_CHECKING:
    from model.engine.engine import Engine

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class Token:
    """One generated token and the text that it made certain.

    `text` may be empty (half a character, a possible beginning of a stop string, the end token) or longer
    than the token (what was held back before). Joined, the texts are the reply.
    """

    id: int
    text: str
    logprob: float  #: natural logarithm of its probability under the model, before sampling filters


class Generation(Iterator[Token]):
    """Iterator over the tokens of one reply; when it ends, `finish_reason` says why.

    The prompt is read at the first `next`. The iterator may move between threads, one at a time.

    Attributes:
        finish_reason: None while it runs; "stop" after an end token or a stop string; "length" after
        `max_tokens`. prompt_tokens: tokens of the prompt. cached_tokens: how many of them were in the cache
        already. completion_tokens: tokens generated so far, the end token included. drafted_tokens,
        kept_tokens: how many were drafted by prompt lookup, and how many of these were right. cache: keys and
        values of the prompt and the reply, for the next turn.
    """

    def __init__(
        self,
        engine: Engine,
        prompt: Sequence[int],
        sampling: Sampling,
        cancel: threading.Event | None,
        cache: Cache | None,
        *,
        constraint: Constraint | None = None,
    ) -> None:
        self._engine, self._prompt, self._sampling, self._cancel = engine, prompt, sampling, cancel
        self._sampler = Sampler(sampling, prompt, engine.config.vocab_size)
        self._text = ReplyText(engine.tokenizer, sampling.stop)
        self._last: int | None = None
        self._constraint = constraint
        most = engine.drafts(sampling) if constraint is None else 0
        self._lookup = Lookup(prompt, most=most) if most else None
        self._ahead: deque[tuple[int, float]] = deque()  # chosen already, not yet given out
        self.cache = cache
        self.finish_reason: FinishReason | None = None
        self.prompt_tokens, self.completion_tokens = len(prompt), 0
        self.cached_tokens = cache.lengths[0] if cache is not None else 0
        self.drafted_tokens = self.kept_tokens = 0

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Token:
        """The next token.

        Raises:
            Cancelled: the caller's event was set; nothing of the reply is lost, no more comes.
        """
        if self.finish_reason is not None:
            raise StopIteration
        token, logprob = self._ahead.popleft() if self._ahead else self._choose()
        if self._lookup is not None:
            self._lookup.push(token)
        self._last = token
        self.completion_tokens += 1
        text = self._read(token)
        if self._ahead and self.finish_reason is not None and self.cache is not None:
            self._ahead.clear()
            self.cache.truncate(self.prompt_tokens + self.completion_tokens - 1)
        return Token(token, text, logprob)

    def _choose(self) -> tuple[int, float]:
        """The next token with its log-probability; those behind it that are known go to `_ahead`."""
        if self._last is None:
            logits, self.cache = self._engine.prefill([self._prompt], cache=self.cache, cancel=self._cancel)
        else:
            if self._cancel is not None and self._cancel.is_set():
                raise Cancelled("generation was cancelled")
            assert self.cache is not None
            room = self._sampling.max_tokens - self.completion_tokens - 1
            draft = self._lookup.draft(room) if self._lookup is not None else []
            if draft:
                return self._verified(self._last, draft, self.cache)
            logits = self._engine.step([self._last], self.cache)
        token, logprob = self._sampler.choose(logits[0], self._allowed())
        if self._constraint is not None:
            self._constraint.advance(token)
        return token, logprob

    def _verified(self, last: int, draft: list[int], cache: Cache) -> tuple[int, float]:
        """As many tokens of the draft as greedy decoding chooses itself, and the one that it chooses then."""
        assert self._lookup is not None
        held = cache.lengths[0]
        logits = self._engine.verify([last, *draft], cache)
        kept = 0
        for row, drafted in zip(logits, [*draft, None], strict=True):
            token, logprob = self._sampler.choose(row)
            self._ahead.append((token, logprob))
            if token != drafted or token in self._engine.config.eos_ids:
                break
            kept += 1
        cache.truncate(held + len(self._ahead))
        self._lookup.judge(len(draft), kept)
        self.drafted_tokens += len(draft)
        self.kept_tokens += kept
        return self._ahead.popleft()

    def _allowed(self) -> Sequence[int] | None:
        """What the constraint allows.

        Raises:
            ModelError: it allows nothing, not even an end.
        """
        if self._constraint is None:
            return None
        allowed = self._constraint.allowed()
        if not allowed:
            raise ModelError("the constraint allows neither a token nor an end: nothing can be written")
        return allowed

    def _read(self, token: int) -> str:
        """The text that this token makes certain; decides whether it was the last."""
        ended = token in self._engine.config.eos_ids
        text = "" if ended else self._text.push(token)
        if ended or self._text.stopped:
            self.finish_reason = "stop"
        elif self.completion_tokens >= self._sampling.max_tokens:
            self.finish_reason = "length"
        if self.finish_reason is not None and not self._text.stopped:
            text += self._text.finish()
        return text
