"""Every reply of a run, one JSON object a line in `answers.jsonl`, appended as it is given.

A reply is known by question, mode and `setup`, a hash of everything that decides it; a run with the same
settings finds it again and goes on where the last one stopped, one with other settings asks anew and leaves
the old lines alone.

Invariant: of two lines with the same key the later one counts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from service import lines
from service.errors import ServiceError


class AnswersUnwritable(ServiceError):
    """The folder of a run cannot be written to, or holds something else."""


@dataclass(frozen=True, slots=True)
class Cited:
    """One citation of a reply, with what decides whether it is a good one."""

    marker: int
    path: str
    page: int | None
    char_start: int
    char_end: int
    text: str
    evidence: bool  #: its passage is one to answer from
    holds: bool  #: an accepted answer stands in the quoted text itself


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a mode said to a question."""

    id: str
    mode: str
    setup: str
    answer: str = ""
    answered: bool = False
    refusal_reason: str | None = None
    llm_generated: bool = False
    model: str = ""
    reading: str | None = None  #: how the generator read: each passage apart, or all in one prompt
    confidence: float | None = None
    retrieval_score: float | None = None  #: of the first passage
    found: bool | None = None  #: a passage to answer from was among those retrieved
    citations: tuple[Cited, ...] = ()
    first_token_ms: float | None = None
    total_ms: float = 0.0
    error: str | None = None
    judged: float | None = None  #: 0 to 100, by a judge
    judge: str | None = None  #: who judged; with `judged` None: its verdict could not be read

    @property
    def key(self) -> tuple[str, str, str]:
        """Question, mode and settings."""
        return self.id, self.mode, self.setup

    @property
    def said(self) -> str:
        """What is compared with the accepted answers: nothing if it refused."""
        return self.answer if self.answered else ""


def setup_of(**decides: Any) -> str:
    """A short hash of what decides a reply; values are put into JSON, other objects by their fields."""
    text = json.dumps(decides, sort_keys=True, default=_plain, ensure_ascii=False)
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).hexdigest()


def _plain(value: Any) -> Any:
    if hasattr(value, "__dataclass_fields__"):
        return {name: getattr(value, name) for name in value.__dataclass_fields__}
    return repr(value)


@dataclass(slots=True)
class Answers:
    """The file of a run."""

    file: Path
    _known: dict[tuple[str, str, str], Reply] = field(default_factory=dict)

    @classmethod
    def open(cls, folder: Path) -> Answers:
        """The answers in `folder`, which is made if need be.

        Raises:
            AnswersUnwritable: it cannot be made or written to, or a line in it is none of ours.
        """
        answers = cls(folder / "answers.jsonl")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            answers.file.touch()
            known = list(lines.read(answers.file))
        except OSError as error:
            raise AnswersUnwritable(
                f"cannot write to {answers.file} ({error.strerror}); name another folder with --out"
            ) from error
        for number, line in known:
            answers._note(number, line)
        return answers

    def _note(self, number: int, line: str) -> None:
        try:
            row = json.loads(line)
            citations = tuple(Cited(**c) for c in row.pop("citations"))
            reply = Reply(**row, citations=citations)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise AnswersUnwritable(
                f"{self.file}, line {number} is no reply of an evaluation ({error}); "
                "move the file away, or name another folder with --out"
            ) from error
        self._known[reply.key] = reply

    def get(self, key: tuple[str, str, str]) -> Reply | None:
        """A reply that is there already; one that failed is asked again."""
        reply = self._known.get(key)
        return None if reply is None or reply.error is not None else reply

    def forget(self) -> None:
        """Answer nothing from what was kept; the file stays as it is."""
        self._known.clear()

    def add(self, replies: Iterable[Reply]) -> None:
        """Append, and hand over to the disk.

        Raises:
            AnswersUnwritable: the disk is full or gone.
        """
        added = list(replies)
        self._known |= {reply.key: reply for reply in added}
        try:
            lines.add(self.file, map(asdict, added))
        except OSError as error:
            raise AnswersUnwritable(
                f"cannot write to {self.file} ({error.strerror}); make room and run the same command again: "
                "it goes on where it stopped"
            ) from error
