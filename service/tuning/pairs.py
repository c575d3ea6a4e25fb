"""What has been made of each passage so far: one JSON object a line, appended as soon as a passage is done.

A passage is known by its key and by `setup`, a hash of what decides its questions (writer, reader, search,
seed). A run with the same settings goes on where the last one stopped, after a kill too; one with other
settings begins anew and leaves the old lines alone.

A passage may be worked on more than once (`lap`), each time for other spans.

Invariant: of two lines with the same key and lap the later one counts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from service import lines
from service.errors import ServiceError


class PairsUnwritable(ServiceError):
    """The folder of a compilation cannot be written to, or holds something else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A question that was kept, and its answer."""

    question: str
    answer: str | None  #: None: the sentences are the answer
    sentences: tuple[str, ...]
    kind: str
    hits: tuple[tuple[str, int], ...] = ()  #: what the search found: document id and position, best first

    @property
    def said(self) -> str:
        """The answer in words."""
        return self.answer if self.answer is not None else " ".join(self.sentences)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """A question that was not kept, for people who want to see why."""

    question: str
    wanted: str
    reason: str
    said: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What became of one passage."""

    key: str
    setup: str
    document_id: str
    path: str
    position: int
    pairs: tuple[Pair, ...] = ()
    rejected: tuple[Rejected, ...] = ()
    write_s: float = 0.0
    check_s: float = 0.0
    failed: str | None = None  #: why nothing could be written on it
    lap: int = 1  #: how often the passage had been worked on, with this time

    @property
    def written(self) -> int:
        """Questions that were written."""
        return len(self.pairs) + len(self.rejected)

    @property
    def asked_for(self) -> frozenset[str]:
        """What questions were written for."""
        return frozenset((*(pair.said for pair in self.pairs), *(r.wanted for r in self.rejected)))


def together(done: Iterable[Done]) -> list[Done]:
    """One for each passage, in the order in which they were first worked on, with what all laps gave."""
    found: dict[str, Done] = {}
    for one in done:
        before = found.get(one.key)
        found[one.key] = (
            one
            if before is None
            else replace(
                before,
                pairs=before.pairs + one.pairs,
                rejected=before.rejected + one.rejected,
                write_s=round(before.write_s + one.write_s, 2),
                check_s=round(before.check_s + one.check_s, 2),
            )
        )
    return [*found.values()]


@dataclass(slots=True)
class Pairs:
    """The file of a compilation."""

    file: Path
    _known: dict[tuple[str, str, int], Done] = field(default_factory=dict)

    @classmethod
    def open(cls, file: Path) -> Pairs:
        """What the file holds, if there is one.

        Raises:
            PairsUnwritable: it cannot be read, or a line in it is none of ours.
        """
        pairs = cls(file)
        try:
            known = list(lines.read(file))
        except OSError as error:
            raise PairsUnwritable(f"cannot read {file} ({error.strerror}); check its permissions") from error
        for number, line in known:
            pairs._note(number, line)
        return pairs

    def _note(self, number: int, line: str) -> None:
        try:
            row = json.loads(line)
            kept = tuple(
                Pair(
                    **(p | {"sentences": tuple(p["sentences"]), "hits": tuple((d, n) for d, n in p["hits"])})
                )
                for p in row.pop("pairs")
            )
            done = Done(**row | {"rejected": tuple(Rejected(**r) for r in row.pop("rejected"))}, pairs=kept)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise PairsUnwritable(
                f"{self.file}, line {number} is no line of `tune` ({error}); move the file away"
            ) from error
        self._known[done.key, done.setup, done.lap] = done

    def get(self, key: str, setup: str, lap: int = 1) -> Done | None:
        """What became of a passage; None where it has not been worked on with these settings."""
        return self._known.get((key, setup, lap))

    def add(self, done: Done) -> None:
        """Append, and hand over to the disk.

        Raises:
            PairsUnwritable: the disk is full or gone.
        """
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            lines.add(self.file, [asdict(done)])
        except OSError as error:
            raise PairsUnwritable(
                f"cannot write to {self.file} ({error.strerror}); make room and run the same command again: "
                "it goes on where it stopped"
            ) from error
        self._known[done.key, done.setup, done.lap] = done

    def pace(self) -> float | None:
        """Seconds that a passage took so far, on average; None where none has been worked on."""
        took = [done.write_s + done.check_s for done in self._known.values() if done.failed is None]
        return sum(took) / len(took) if took else None
