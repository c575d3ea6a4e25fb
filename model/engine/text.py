"""The reply's text as it comes: whole characters only, and cut before the first stop string."""

from __future__ import annotations

from collections.abc import Sequence

from model.tokenizer import Tokenizer


class ReplyText:
    """Turns tokens into text; holds back what may yet become a stop string or a whole character.

    The reply ends at the stop string whose end comes first, wherever tokens happen to be cut.
    """

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str] = ()) -> None:
        self._decoder = tokenizer.stream()
        self._stop = tuple(stop)
        self._held = ""
        self.stopped = False

    def push(self, token: int) -> str:
        """The text that is certain after this token; sets `stopped` when a stop string is complete."""
        return self._release(self._decoder.push(token))

    def finish(self) -> str:
        """The rest, when no more tokens come."""
        rest = self._release(self._decoder.finish())
        rest, self._held = rest + self._held, ""
        return rest

    def _release(self, piece: str) -> str:
        if not self._stop:
            return piece
        text = self._held + piece
        found = [(at + len(stop), at) for stop in self._stop if (at := text.find(stop)) >= 0]
        if found:
            self.stopped, self._held = True, ""
            return text[: min(found)[1]]
        longest = min(len(text), max(map(len, self._stop)) - 1)
        keep = next((n for n in range(longest, 0, -1) if any(s.startswith(text[-n:]) for s in self._stop)), 0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]
