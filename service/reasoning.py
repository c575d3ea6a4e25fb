"""Splitting a model's reasoning from its answer while it streams.

Models such as DeepSeek-R1 put their reasoning between `<think>` and `</think>`; some templates open the tag
in the prompt, so that only the closing tag arrives. Text that has been given out as answer cannot be taken
back from a stream, therefore `Splitter.answer` and `Splitter.reasoning` at the end are what counts.
"""

from __future__ import annotations

OPEN, CLOSE = "<think>", "</think>"


class Splitter:
    """Feed pieces of a reply, get `(answer, reasoning)` pieces that are certain so far."""

    def __init__(self) -> None:
        self.answer = ""
        self.reasoning = ""
        self._inside = False
        self._held = ""  # the end of the text, where a tag may be beginning

    def feed(self, text: str, reasoning: str = "") -> tuple[str, str]:
        """What the piece adds to the answer and to the reasoning."""
        answer, thought = "", reasoning
        self._held += text
        while True:
            tag = CLOSE if self._inside else OPEN
            at = self._held.find(tag)
            bare = -1 if self._inside else self._held.find(CLOSE)
            if bare >= 0 and (at < 0 or bare < at):  # a bare closing tag: everything before it was reasoning
                thought += self._held[:bare]
                self.reasoning, self.answer, answer = self.reasoning + self.answer + answer, "", ""
                self._held = self._held[bare + len(CLOSE) :].lstrip()
                continue
            if at < 0:
                break
            before, self._held = self._held[:at], self._held[at + len(tag) :]
            if self._inside:
                thought += before
                self._held = self._held.lstrip()
            else:
                answer += before
            self._inside = not self._inside
        certain = len(self._held) - self._beginning()
        if self._inside:
            thought += self._held[:certain]
        else:
            answer += self._held[:certain]
        self._held = self._held[certain:]
        return self._keep(answer, thought)

    def finish(self) -> tuple[str, str]:
        """What was held back because it might have become a tag."""
        held, self._held = self._held, ""
        return self._keep("", held) if self._inside else self._keep(held, "")

    def _keep(self, answer: str, thought: str) -> tuple[str, str]:
        if not self.answer:
            answer = answer.lstrip()
        self.answer += answer
        self.reasoning += thought
        return answer, thought

    def _beginning(self) -> int:
        """Length of the longest end of the held text that begins a tag."""
        tags = (CLOSE,) if self._inside else (OPEN, CLOSE)
        longest = min(len(self._held), len(CLOSE) - 1)
        return next((n for n in range(longest, 0, -1) if any(t.startswith(self._held[-n:]) for t in tags)), 0)
