"""The labels, their examples and the instruction: checked once, put into one order, known by a hash.

The order in which labels and examples were given means nothing: everything after this sees them sorted.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from service.errors import InvalidClasses

MOST_LABELS, MOST_EXAMPLES, MOST_LABEL_CHARS, MOST_TEXT_CHARS = 1000, 20_000, 200, 20_000
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
CUT = " … "


@dataclass(frozen=True)
class Classes:
    """What there is to choose from.

    Attributes:
        labels: sorted.
        examples: of each label, sorted, without repeats; may be empty.
        instruction: what the model is told; None: the default one.
    """

    labels: tuple[str, ...]
    examples: tuple[tuple[str, ...], ...]
    instruction: str | None = None

    @classmethod
    def of(cls, given: Mapping[str, Sequence[str]], instruction: str | None = None) -> Classes:
        """Check and sort.

        Raises:
            InvalidClasses: fewer than two labels, too much of anything, an empty label or example, a label
                with control characters, or two labels that differ only in case, width or white space.
        """
        if len(given) < 2:
            raise InvalidClasses(
                f"{len(given)} label given: with fewer than two there is nothing to choose. Add another, for "
                "instance one for everything else."
            )
        if len(given) > MOST_LABELS or sum(map(len, given.values())) > MOST_EXAMPLES:
            raise InvalidClasses(
                f"at most {MOST_LABELS:,} labels and {MOST_EXAMPLES:,} examples are accepted: "
                "train a classifier for more"
            )
        seen: dict[str, str] = {}
        kept: dict[str, tuple[str, ...]] = {}
        for label, examples in given.items():
            name = label.strip()
            if not name:
                raise InvalidClasses("a label is empty: give it a name")
            if len(name) > MOST_LABEL_CHARS or _CONTROL.search(name) or len(name.splitlines()) > 1:
                raise InvalidClasses(
                    f"the label {name[:40]!r} is longer than {MOST_LABEL_CHARS} characters or has control "
                    "characters or line breaks: give it a plain name"
                )
            same = " ".join(unicodedata.normalize("NFKC", name).casefold().split())
            if same in seen:
                raise InvalidClasses(
                    f"the labels {seen[same]!r} and {label!r} are the same: put their examples under one"
                )
            seen[same] = label
            texts = {clean(text) for text in examples}
            if "" in texts:
                raise InvalidClasses(f"an example of {name!r} is empty: remove it")
            if any(len(text) > MOST_TEXT_CHARS for text in texts):
                raise InvalidClasses(
                    f"an example of {name!r} has more than {MOST_TEXT_CHARS:,} characters: give its beginning"
                )
            kept[name] = tuple(sorted(texts))
        labels = tuple(sorted(kept))
        told = clean(instruction or "") or None
        return cls(labels, tuple(kept[label] for label in labels), told)

    @cached_property
    def key(self) -> str:
        """Hash of everything in it."""
        spelled = json.dumps([self.labels, self.examples, self.instruction], ensure_ascii=True)
        return hashlib.sha256(spelled.encode()).hexdigest()

    @property
    def flat(self) -> list[tuple[str, int]]:
        """Every example with the number of its label, in an order that has nothing to do with labels."""
        pairs = [(text, at) for at, texts in enumerate(self.examples) for text in texts]
        return sorted(pairs, key=lambda p: (hashlib.sha256(p[0].encode()).digest(), p[1]))

    @property
    def names(self) -> list[str]:
        """Labels as words: `card_arrival` reads "card arrival"."""
        return [label.replace("_", " ").strip() or label for label in self.labels]

    def as_given(self) -> dict[str, list[str]]:
        """Label to examples."""
        return {label: list(texts) for label, texts in zip(self.labels, self.examples, strict=True)}


def clean(text: str) -> str:
    """Without control characters (each is a space) and without white space around it."""
    return _CONTROL.sub(" ", text).strip()


def shortened(text: str, most: int, count: Callable[[str], int]) -> str:
    """The text, or its head and tail if `count` finds more than `most` tokens in it.

    Two thirds are head: what a text is about stands more often at its beginning.
    """
    if len(text) <= most // 4 or count(text) <= most:
        return text
    low, high = 0, len(text) - 1
    while low < high:
        middle = (low + high + 1) // 2
        if count(_ends(text, middle)) <= most:
            low = middle
        else:
            high = middle - 1
    return _ends(text, low)


def _ends(text: str, characters: int) -> str:
    head = characters * 2 // 3
    tail = characters - head
    return text[:head].rstrip() + CUT + (text[-tail:].lstrip() if tail else "")


def without_repeated_keys(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """An `object_pairs_hook` for `json.loads`, which otherwise keeps the last of equal keys silently.

    Raises:
        InvalidClasses: a key stands twice.
    """
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise InvalidClasses(f"{key!r} stands twice in the same JSON object: put its values under one")
        found[key] = value
    return found
