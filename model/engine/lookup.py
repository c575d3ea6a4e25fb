"""Drafts from what was read: a reply that quotes its prompt goes on as the prompt does (prompt lookup).

The last tokens written are looked for further up, in prompt and reply; what followed them there is the
draft. The decoder then reads the whole draft at once, which takes little longer than one token, and as many
tokens are kept as it would have chosen itself, so the reply is the same. (Speculative decoding, arXiv
2211.17192, with the text itself as the small model.)

How far a draft reaches follows how the last ones fared: it doubles when a draft was right to its end, and
halves when its first token was wrong.
"""

from __future__ import annotations

from collections.abc import Iterable

#: Lengths of the tails that are looked for, the longest first: a longer one is likelier to go on alike.
TAILS = (4, 3, 2)
FIRST_REACH = 4


class Lookup:
    """What was read and written so far, and where each short tail of it was last followed by something."""

    def __init__(self, tokens: Iterable[int], *, most: int) -> None:
        self._tokens: list[int] = []
        self._after: dict[tuple[int, ...], int] = {}
        self._most, self._reach = most, min(FIRST_REACH, most)
        for token in tokens:
            self.push(token)

    def push(self, token: int) -> None:
        """One more token stands behind all others."""
        at = len(self._tokens)
        for length in TAILS:
            if at >= length:
                self._after[tuple(self._tokens[at - length :])] = at
        self._tokens.append(token)

    def draft(self, most: int) -> list[int]:
        """What followed the longest tail that stood somewhere before, at most `most` tokens."""
        for length in TAILS:
            start = self._after.get(tuple(self._tokens[-length:])) if len(self._tokens) >= length else None
            if start is not None:
                return self._tokens[start : start + max(min(most, self._reach), 0)]
        return []

    def judge(self, drafted: int, kept: int) -> None:
        """Learn how many tokens of the last draft were right."""
        if kept == drafted:
            self._reach = min(2 * self._reach, self._most)
        elif kept == 0:
            self._reach = max(self._reach // 2, 1)
