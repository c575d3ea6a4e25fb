r"""Texts as the encoder reads them: word pieces, and where each stands in the text.

A question is read as "query: ...", a passage as "passage: HEADING\n...", the prefixes that e5 was trained
with. What may be quoted are the pieces of the passage itself, not those of its heading.

Invariant: offsets are code points into the passage as it was given, whatever the tokenizer's normalizer did
to it (NFKC, white space); a piece that stands for nothing in the text is never the edge of a span.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

from model.errors import TokenizerError

QUERY, PASSAGE = "query: ", "passage: "
#: Pieces of a question that are read, and how far windows of a longer passage overlap.
MOST_QUESTION, OVERLAP = 96, 64
#: Characters of a heading that are read: its end, which is the nearest to the text.
MOST_HEADING = 80
#: `<s>` and `</s>`, which XLM-R's vocabulary has at these places.
FIRST, LAST = 0, 2


@dataclass(frozen=True, slots=True)
class Pieces:
    """A question, or a window of a passage: ids with the special ones around them, and their places."""

    ids: tuple[int, ...]
    places: tuple[tuple[int, int] | None, ...]  #: code points; None where no span may begin or end

    @property
    def own(self) -> tuple[bool, ...]:
        """Which pieces are the text's own words, not ours around it."""
        return tuple(place is not None for place in self.places)

    def __len__(self) -> int:
        """Number of ids."""
        return len(self.ids)


#: Texts to (ids, places), without special pieces and uncut.
Cut = Callable[[Sequence[str]], Sequence[tuple[Sequence[int], Sequence[tuple[int, int]]]]]


class Pieced:
    """A tokenizer of the encoder's."""

    def __init__(self, source: Path | Cut, window: int) -> None:
        """Read `tokenizer.json`, or use what somebody has read already.

        Args:
            source: the file, or what cuts texts.
            window: how many ids the encoder has positions for.

        Raises:
            TokenizerError: the file is missing or damaged.
        """
        self._cut = _cutter(source) if isinstance(source, Path) else source
        self._before = len(self._cut([QUERY.rstrip()])[0][0])
        self.window = window

    def question(self, text: str) -> Pieces:
        """A question, read to its `MOST_QUESTION`th piece."""
        ids, offsets = self._cut([QUERY + text])[0]
        ids, offsets = ids[: MOST_QUESTION - 2], offsets[: MOST_QUESTION - 2]
        shift = len(QUERY)
        own = [
            (max(0, start - shift), end - shift) if i >= self._before and end > shift else None
            for i, (start, end) in enumerate(offsets)
        ]
        return Pieces((FIRST, *ids, LAST), (None, *own, None))

    def passage(self, text: str, heading: str = "") -> list[Pieces]:
        """The windows of a passage, which overlap; one, nearly always.

        Every window begins with prefix and heading.
        """
        lead = PASSAGE + (heading[-MOST_HEADING:] + "\n" if heading else "")
        (before, _), (ids, offsets) = self._cut([lead, text])
        places = [_trimmed(text, start, end) for start, end in offsets]
        room = self.window - len(before) - 2
        windows, at = [], 0
        while True:
            some = slice(at, at + room)
            whole = (FIRST, *before, *ids[some], LAST)
            windows.append(Pieces(whole, (*[None] * (len(before) + 1), *places[some], None)))
            if at + room >= len(places):
                return windows
            at += room - min(OVERLAP, room // 2)

    def count(self, texts: Sequence[str]) -> list[int]:
        """Ids of each text without the special ones."""
        return [len(ids) for ids, _ in self._cut(texts)]


def _cutter(file: Path) -> Cut:
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises bare Exception
        raise TokenizerError(f"{file} is missing or damaged ({error}). Pull the embedder again") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()

    def cut(texts: Sequence[str]) -> list[tuple[list[int], list[tuple[int, int]]]]:
        return [(e.ids, e.offsets) for e in tokenizer.encode_batch(list(texts), add_special_tokens=False)]

    return cut


def _trimmed(text: str, start: int, end: int) -> tuple[int, int] | None:
    """The place without white space at its edges; None where nothing is left."""
    piece = text[start:end]
    kept = piece.strip()
    if not kept:
        return None
    first = start + len(piece) - len(piece.lstrip())
    return first, first + len(kept)
