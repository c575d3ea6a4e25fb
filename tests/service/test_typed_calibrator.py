"""Which of the shipped calibrators speaks: questions as people type them have one of their own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from service.reading.calibration import SHIPPED, TYPED, Calibrator
from service.reading.calibrators import FILE, Calibrators, is_typed
from service.reading.select import FEATURES

BOTH = Calibrator.load(SHIPPED, features=FEATURES).made_for["reader"]


@pytest.mark.parametrize(
    ("question", "typed"),
    [
        ("who wrote the book", True),
        ("how heavy is the BrewMate 300", True),
        ("2018 winner of the cup", True),
        ("who wrote the book?", False),
        ("Who wrote the book", False),
        ("谁写的这本书", False),
        ("wer schrieb das Buch ？", False),
        ("", False),
        ("42", False),
    ],
)
def test_what_looks_typed(question: str, typed: bool) -> None:
    assert is_typed(question) is typed


def test_a_typed_question_is_judged_by_what_learned_from_typed_ones(tmp_path: Path) -> None:
    calibrators = Calibrators(lambda name: tmp_path / name)

    def speaks(question: str, reader: str) -> str:
        return calibrators.of("c", question, reader, "e5").calibrator.name

    assert speaks("who wrote the book", BOTH) == "shipped, typed"
    assert speaks("Who wrote the book?", BOTH) == "shipped"
    assert speaks("who wrote the book", "another reader") == "shipped"
    # A collection's own was fitted on whatever was asked of it.
    own = replace(calibrators.shipped, name="collection c", made_for={"reader": BOTH, "embedder": "e5"})
    (tmp_path / "c").mkdir()
    own.save(tmp_path / "c" / FILE)
    assert speaks("who wrote the book", BOTH) == speaks("Who wrote the book?", BOTH) == "collection c"


def test_both_shipped_ones_are_of_the_same_readers() -> None:
    """A reader that is shipped anew needs both fitted anew."""
    assert Calibrator.load(TYPED, features=FEATURES).made_for["reader"] == BOTH
