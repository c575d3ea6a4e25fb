"""The stretches that answer a question for sentences, and how likely the first of them is right.

Every stretch gets a probability from what is known of it; the likeliest speaks. Where the kind of question
asks for several sentences, those come with it that are nearly as likely and stand in the same section: the
rest of a way, of a list, of an explanation. Of a list one item is no answer, so the list is taken for it; of
a comparison the likeliest stretch about the other thing comes along.

Invariant: the chosen stretches are in the order of their document and no two overlap.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from service import evidence
from service.choosing.features import FEATURES, Known, describe, leading
from service.choosing.stretches import Stretch, is_called, stretches
from service.questions import compared, definitions, kinds
from service.reading.calibration import Calibrator

SHIPPED = Path(__file__).with_name("calibrator.json")
#: A further stretch is at least this likely beside the first one; and this many make an answer at most.
NEARLY, MOST = 0.5, 5
#: A list is taken for its likeliest item if it is at least this likely beside it.
WHOLE_LIST = 0.25
#: A list that the question names by its label, Ingredients: for what the ingredients are, from so much on.
NAMED_LIST = 0.05
#: The other side of a comparison, the same.
OTHER_SIDE = 0.1


@dataclass(frozen=True, slots=True)
class Choice:
    """What answers."""

    stretches: tuple[Stretch, ...]  #: in their document's order; empty where nothing can be quoted
    first: Stretch | None  #: the likeliest
    probability: float  #: that `first` is right


class Chooser:
    """Chooses stretches. Safe from several threads."""

    def __init__(self, calibrator: Calibrator | None = None) -> None:
        """Choose by this calibrator; the shipped one by default."""
        self._given = calibrator

    @cached_property
    def calibrator(self) -> Calibrator:
        """From what is known of a stretch to a probability; read when the first question needs it."""
        return self._given or Calibrator.load(SHIPPED, features=FEATURES)

    def choose(self, known: Known, doubtful: Collection[int] = ()) -> Choice:
        """What answers, whether it is likely enough or not.

        Args:
            known: the question, its passages and what was made of them.
            doubtful: chunks that are heard only where no other one qualifies.
        """
        found = leading(known, stretches(known.hits))
        described = list(zip(found, describe(known, found), strict=True))
        return self.decide(known.question, described, doubtful)

    def decide(
        self,
        question: str,
        described: Sequence[tuple[Stretch, tuple[float, ...]]],
        doubtful: Collection[int] = (),
    ) -> Choice:
        """The same of stretches with their features."""
        calibrator = self.calibrator
        likely = [(stretch, calibrator.probability(features)) for stretch, features in described]
        clean = [(s, p) for s, p in likely if s.hit.chunk_id not in doubtful]
        if any(p >= calibrator.threshold for _, p in clean):
            likely = clean
        if not likely:
            return Choice((), None, 0.0)
        likely.sort(key=lambda one: (-one[1], one[0].rank, one[0].start))
        first, probability = likely[0]
        return Choice(together(question, likely), first, probability)


def together(question: str, ordered: Sequence[tuple[Stretch, float]]) -> tuple[Stretch, ...]:
    """The likeliest stretch with all that belongs to it, in its document's order.

    Args:
        question: as asked.
        ordered: stretches and their probabilities, likeliest first.
    """
    kind = kinds.kind(question)
    things = compared.things(question) if kind == "comparison" else ()
    whole = {_name(stretch) for stretch, _ in ordered if stretch.kind == "row"}.intersection(things)
    # The third of a table's products is not compared.
    others = [s for s, _ in ordered if things and s.kind == "row" and not _about(s, things, whole)]
    ordered = [one for one in ordered if one[0] not in others] or ordered
    first, best = ordered[0]
    if kind == "list":
        named = [s for s, p in ordered if p >= NAMED_LIST * best and is_called(s, question)]
        if named:
            return (named[0],)
    if kind not in kinds.SEVERAL:
        # A run of items or rows that no sentence announces is no list: one of them answers.
        alone = [s for s, _ in ordered if s.kind in ("item", "row") and s.touches(first)]
        run = first.kind == "list" and any(one.start == first.start for one in alone)
        return (alone[0] if run else first,)
    if kind != "comparison" and first.kind in ("item", "row"):
        held = [s for s, p in ordered if s.kind == "list" and s.touches(first) and p >= WHOLE_LIST * best]
        first = held[0] if held else first
    taken = [first]
    behind = next((s for s, _ in ordered if _behind(first, s)), None)
    if kind != "comparison" and behind is not None:
        taken.append(behind)
    taken += _others(things, first, ordered)
    for stretch, probability in ordered:
        near = _section(stretch) == _section(first) or stretch.rank == first.rank
        if len(taken) == MOST or probability < NEARLY * best:
            break
        if near and not any(stretch.touches(one) for one in taken):
            taken.append(stretch)
    if (number := definitions.how_many_named(question)) is not None:
        # These go before what is only nearly as likely.
        by_place = {s.key: s for s in (first, *_names(number, taken, ordered), *taken)}
        taken = list(by_place.values())[:MOST]
    return tuple(sorted(taken, key=lambda s: (s.hit.document_id != first.hit.document_id, s.key)))


def _about(stretch: Stretch, things: Sequence[frozenset[str]], whole: Collection[frozenset[str]]) -> bool:
    """Whether a row is about one of the things; of one that has a row of its own, only that row."""
    terms = frozenset(evidence.terms(stretch.text))
    return any(
        _name(stretch) == thing if thing in whole else compared.speaks(terms, thing) for thing in things
    )


def _name(row: Stretch) -> frozenset[str]:
    """The words of a row's first cell."""
    return frozenset(evidence.terms(row.text.strip("| ").partition("|")[0]))


def _others(
    things: Sequence[frozenset[str]], first: Stretch, ordered: Sequence[tuple[Stretch, float]]
) -> list[Stretch]:
    """The likeliest stretch about each of the compared things of which the first one does not speak."""
    taken: list[Stretch] = []
    for thing in things:
        if any(compared.speaks(frozenset(evidence.terms(one.text)), thing) for one in (first, *taken)):
            continue
        for stretch, probability in ordered:
            apart = not any(stretch.touches(one) for one in (first, *taken))
            if probability < OTHER_SIDE * ordered[0][1]:
                break
            if apart and compared.speaks(frozenset(evidence.terms(stretch.text)), thing):
                taken.append(stretch)
                break
    return taken


def _names(number: int, taken: Sequence[Stretch], ordered: Sequence[tuple[Stretch, float]]) -> list[Stretch]:
    """A sentence that says only that there are so many things, and what names them right behind it."""
    for one in taken:
        if one.kind != "sentence" or not definitions.announces(one.text, number):
            continue
        behind: list[Stretch] = []
        while len(behind) < number:
            last = behind[-1] if behind else one
            after = (s for s, _ in ordered if s.rank == one.rank and s.place == last.last + 1)
            if (follows := max(after, key=lambda s: s.end, default=None)) is None:
                break
            behind.append(follows)
        found = behind[: definitions.naming([s.text for s in behind], number)]
        if found and all(s.key == other.key or not s.touches(other) for s in found for other in taken):
            return [one, *found]
    return []


def _behind(first: Stretch, other: Stretch) -> bool:
    """Whether a list or code stands right behind a sentence that does not announce it by a colon."""
    follows = other.rank == first.rank and other.place == first.last + 1
    return follows and (other.kind in ("list", "code") or other.code) and first.kind == "sentence"


def _section(stretch: Stretch) -> tuple[str, tuple[str, ...]]:
    return stretch.hit.document_id, stretch.hit.heading_path
