"""A document becomes passages along its headings, paragraphs and sentences, never past the window.

Laws (tests hold them by property):

- a chunk's text is `document.text[char_start:char_end]`; chunks are ordered by start and by end;
- every character that is not white space is in at least one chunk, so that chunks without their overlap, and
  the white space between them, are the document's text byte for byte;
- `tokens` is the embedder's own count of `embedding_text` (title and heading path, passage, special tokens)
  and never exceeds `max_tokens`;
- a chunk that begins in the middle of a Markdown table is embedded below the table's header;
- source code is cut between blocks: before the least indented line that there is;
- a chunk never crosses a heading; only a heading that has no text of its own goes with the first chunk below
  it.

How tokens are counted without counting all the time: the splitter cuts a section into *atoms* (about a sixth
of a chunk, at the best separator there is) by characters; all atoms are counted together; chunks are packed
from the sums; the packed chunks are counted together. A sum is nearly always an upper bound; a chunk that is
too long nevertheless is cut in two and counted again. So a document takes a handful of calls, of thousands of
texts each.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from langchain_text_splitters import RecursiveCharacterTextSplitter

from ingest import table_headers
from ingest.types import Chunk, Document, Section, heading_prefix

CountTokens = Callable[[list[str]], list[int]]

#: From the strongest boundary to none. Sentence ends of Latin script count only before white space.
SEPARATORS = ["\n\n", "\n", "。", "！", "？", "；", ". ", "! ", "? ", "; ", "，", "、", ", ", " ", ""]
#: Of source code: before a line that is not indented, by one step, by two steps; but not before a bracket
#: that closes, since it belongs to its block.
CODE_SEPARATORS = [
    r"\n(?=[^\s)}\]])",
    r"\n(?=(?:\t| {1,4})[^\s)}\]])",
    r"\n(?=(?:\t\t| {5,8})[^\s)}\]])",
    r"\n",
    " ",
    "",
]
ATOMS_A_CHUNK = 6
LONGEST_IN_CHARACTERS = 8
"""Characters a token that a chunk may have at most: word pieces count an endless word as one."""
TEXTS_A_CALL = 4096
_SAMPLE = 1500  # characters, from three places
_STRENGTH = (
    (4, re.compile(r"\n[ \t]*\n\s*\Z")),
    (3, re.compile(r"\n\s*\Z")),
    (2, re.compile(r"(?:[.!?][\"'”’)\]]*\s+|[。！？；][”’」』）]*\s*)\Z")),
    (1, re.compile(r"(?:[,;:]\s+|[，、：]\s*)\Z")),
)
_NEXT_LINE = re.compile(r"(?:[ \t]*\n)*(?P<indent>[ \t]*)(?P<first>\S?)")
_WORD = re.compile(r"\w")


@dataclass(frozen=True, slots=True)
class _Atom:
    start: int
    end: int
    tokens: int  #: without special tokens
    strength: int  #: of the boundary at its end: 4 paragraph, 3 line, 2 sentence, 1 clause, 0 word or none


@dataclass(frozen=True, slots=True)
class _Span:
    """A chunk to be: `core` partitions the section, `start` reaches back into the core before it."""

    start: int
    core: int
    end: int
    heading_path: tuple[str, ...]
    budget: int  #: tokens of text and table header


def split(
    document: Document, *, count_tokens: CountTokens, max_tokens: int, overlap_tokens: int
) -> list[Chunk]:
    """Chunks of a document, in order; the same input gives the same chunks.

    Args:
        document: its sections must cover its text in order, as parsers make them.
        count_tokens: tokens that the embedder would read for each text, special tokens and its own
            instruction prefix included. Expensive; called with many texts a small, bounded number of times.
        max_tokens: what `embedding_text` of a chunk may have at most.
        overlap_tokens: how far a chunk reaches back into the one before it, within a section; at most a
            quarter of the room for text is used.

    Raises:
        ValueError: `max_tokens` leaves no room for text beside the embedder's special tokens.
    """
    text = document.text
    if not text.strip():
        return []
    count_tokens = _sliced(count_tokens)
    sections = _sections(document)
    prefixes, room, special = _budget(document.title, sections, count_tokens, max_tokens)
    atoms = _atoms(text, sections, room, special, count_tokens)
    headers = _Headers(text, special, count_tokens)
    spans: list[_Span] = []
    for section, here in zip(sections, atoms, strict=True):
        budget = room[section.heading_path]
        overlap = min(overlap_tokens, budget // 4)
        spans += _pack(here, section.heading_path, budget, overlap, max_tokens, headers)
    return list(_verified(document, spans, prefixes, headers, count_tokens, max_tokens))


class _Headers:
    """What passages that begin in the middle of a table are told of it, and what that costs."""

    def __init__(self, text: str, special: int, count_tokens: CountTokens) -> None:
        self._tables = table_headers.find(text)
        lines = list(dict.fromkeys(table.header for table in self._tables))
        counts = count_tokens([f"{line}\n" for line in lines]) if lines else []
        self._tokens = {line: max(0, n - special) for line, n in zip(lines, counts, strict=True)}

    def at(self, start: int, budget: int) -> str:
        """The header for a passage that begins at `start`; none where it would take a third of the room."""
        header = table_headers.header_at(self._tables, start)
        return header if header and 3 * self._tokens[header] <= budget else ""

    def tokens(self, start: int, budget: int) -> int:
        """What it costs."""
        return self._tokens.get(self.at(start, budget), 0)


def _sliced(count_tokens: CountTokens) -> CountTokens:
    """The same count, some thousand texts a call: tokenizers keep much about each text of a call."""
    return lambda texts: [
        count
        for start in range(0, len(texts), TEXTS_A_CALL)
        for count in count_tokens(texts[start : start + TEXTS_A_CALL])
    ]


def _sections(document: Document) -> list[Section]:
    """Sections with text; neighbours of one path are one, a bare heading joins the section below it."""
    joined: list[Section] = []
    for section in document.sections:
        before = joined[-1] if joined else None
        if before is not None and (
            before.heading_path == section.heading_path
            or (
                _is_bare(document.text, before)
                and section.heading_path[: len(before.heading_path)] == before.heading_path
            )
        ):
            joined[-1] = replace(section, char_start=before.char_start)
        else:
            joined.append(section)
    return [s for s in joined if document.text[s.char_start : s.char_end].strip()]


def _is_bare(text: str, section: Section) -> bool:
    """Whether a section is nothing but its heading (or white space)."""
    if section.char_end - section.char_start > 1000:
        return False
    words = "".join(_WORD.findall(text[section.char_start : section.char_end]))
    title = "".join(_WORD.findall(section.heading_path[-1])) if section.heading_path else ""
    return not words or (bool(title) and words.endswith(title) and len(words) <= len(title) + 4)


def _budget(
    title: str, sections: Sequence[Section], count_tokens: CountTokens, max_tokens: int
) -> tuple[dict[tuple[str, ...], str | None], dict[tuple[str, ...], int], int]:
    """Per heading path the shortened prefix (None: whole) and the tokens left for text; the special tokens.

    A prefix may take half of the window; a longer one loses first its middle headings, then characters at its
    end.
    """
    paths = list(dict.fromkeys(section.heading_path for section in sections))
    whole = [heading_prefix(title, path) for path in paths]
    counts = count_tokens(["", *(f"{prefix}\n" for prefix in whole)])
    special, counts = counts[0], counts[1:]
    if special + 8 > max_tokens:
        raise ValueError(
            f"max_tokens={max_tokens} leaves no room beside the embedder's {special} special tokens"
        )
    limit = special + (max_tokens - special) // 2
    prefixes: dict[tuple[str, ...], str | None] = dict.fromkeys(paths)
    tokens = dict(zip(paths, counts, strict=True))
    long = [path for path in paths if tokens[path] > limit]
    for path in long:
        prefixes[path] = heading_prefix(title, path[-1:])
    while long:  # halves what is too long, so it ends after a few rounds whatever the tokenizer does
        counts = count_tokens([f"{prefixes[path]}\n" for path in long])
        tokens |= dict(zip(long, counts, strict=True))
        long = [path for path in long if tokens[path] > limit and prefixes[path]]
        for path in long:
            prefix = prefixes[path] or ""
            prefixes[path] = prefix[: len(prefix) // 2].rstrip(" >")
    return prefixes, {path: max_tokens - max(tokens[path], special) for path in paths}, special


def _atoms(
    text: str,
    sections: Sequence[Section],
    room: dict[tuple[str, ...], int],
    special: int,
    count_tokens: CountTokens,
) -> list[list[_Atom]]:
    third = _SAMPLE // 3
    sample = [
        text[at : at + third] for at in (0, max(0, len(text) // 2 - third // 2), max(0, len(text) - third))
    ]
    counted = sum(count_tokens(sample)) - special * len(sample)
    letters_a_token = min(LONGEST_IN_CHARACTERS, max(1.0, sum(map(len, sample)) / max(1, counted)))
    pieces: list[list[str]] = []
    for section in sections:
        size = max(8, int(letters_a_token * room[section.heading_path] / ATOMS_A_CHUNK))
        splitter = RecursiveCharacterTextSplitter(
            separators=CODE_SEPARATORS if section.kind == "code" else SEPARATORS,
            is_separator_regex=section.kind == "code",
            chunk_size=size,
            chunk_overlap=0,
            keep_separator="end",
            strip_whitespace=False,
        )
        pieces.append(splitter.split_text(text[section.char_start : section.char_end]))
    counts = iter(count_tokens([piece for group in pieces for piece in group]))
    return [
        list(_placed(group, section, special, counts, text))
        for group, section in zip(pieces, sections, strict=True)
    ]


def _placed(
    pieces: Sequence[str], section: Section, special: int, counts: Iterator[int], text: str
) -> Iterator[_Atom]:
    start = section.char_start
    for piece in pieces:
        end = start + len(piece)
        strength = _block_strength(text, end) if section.kind == "code" else _strength(piece)
        yield _Atom(start, end, max(0, next(counts) - special), strength)
        start = end


def _strength(piece: str) -> int:
    return next((level for level, boundary in _STRENGTH if boundary.search(piece[-80:])), 0)


def _block_strength(text: str, end: int) -> int:
    """Of the boundary of code at `end`: the less the next line is indented, the stronger."""
    if text[end - 1] != "\n":
        return 0
    following = _NEXT_LINE.match(text, end)
    if following is None or following["first"] in tuple(")}]"):
        return 1
    return max(1, 4 - -(-len(following["indent"].expandtabs(4)) // 4))


def _pack(  # noqa: PLR0917 - a section with its limits
    atoms: Sequence[_Atom],
    path: tuple[str, ...],
    budget: int,
    overlap: int,
    max_tokens: int,
    headers: _Headers,
) -> Iterator[_Span]:
    """Spans of at most `budget` tokens, ended at strong boundaries, the last two of equal length."""
    widest = LONGEST_IN_CHARACTERS * max_tokens
    first = 0
    while first < len(atoms):
        # Within a table only whole rows: half of one below the header would read as another row.
        whole = 3 if headers.tokens(atoms[first].start, budget) else 0
        back = _reach_back(atoms, first, overlap, widest // 4, whole)
        header = headers.tokens(atoms[back].start, budget)
        used = header + sum(atom.tokens for atom in atoms[back:first])
        after = first  # one past the last atom that fits
        while after < len(atoms) and (
            after == first
            or (used + atoms[after].tokens <= budget and atoms[after].end - atoms[back].start <= widest)
        ):
            used += atoms[after].tokens
            after += 1
        if after < len(atoms):
            after = _best_end(atoms, first, after, budget)
        yield _Span(atoms[back].start, atoms[first].start, atoms[after - 1].end, path, budget)
        first = after


def _reach_back(atoms: Sequence[_Atom], first: int, overlap: int, widest: int, whole: int) -> int:
    """The atom where the chunk with its core at `first` starts: `overlap` tokens, `widest` characters back.

    A sentence's start is preferred; with `whole` above 0 only a boundary of that strength will do.
    """
    reach = best = first
    used = 0
    while (
        reach > 0
        and used + atoms[reach - 1].tokens <= overlap
        and atoms[first].start - atoms[reach - 1].start <= widest
    ):
        reach -= 1
        used += atoms[reach].tokens
        if reach == 0 or atoms[reach - 1].strength >= max(2, whole):
            best = reach
    return best if best < first or whole else reach


def _best_end(atoms: Sequence[_Atom], first: int, after: int, budget: int) -> int:
    """The end of a chunk in (first, after]: the strongest boundary that leaves the chunk at least half full.

    Where what remains would make one full and one tiny chunk, it is divided evenly instead.
    """
    fill = 0
    rest = sum(atom.tokens for atom in atoms[first : after + 64])
    even = rest / 2 if rest <= 1.5 * budget else float(budget)
    best, best_rank = after, (-1.0, 0.0)
    for at in range(first, after):
        fill += atoms[at].tokens
        if fill >= 0.5 * min(budget, even) and (at + 1 == after or fill <= 1.1 * even):
            rank = (float(atoms[at].strength), float(fill))
            if rank > best_rank:
                best, best_rank = at + 1, rank
    return best


def _verified(  # noqa: PLR0917 - everything that decides a chunk
    document: Document,
    spans: Sequence[_Span],
    prefixes: dict[tuple[str, ...], str | None],
    headers: _Headers,
    count_tokens: CountTokens,
    max_tokens: int,
) -> Iterator[Chunk]:
    """Chunks counted as the embedder reads them; a too long one loses its overlap, then is halved."""
    ready: list[tuple[_Span, Chunk]] = []
    todo = [span for span in spans if document.text[span.core : span.end].strip()]
    while todo:
        chunks = [_chunk(document, span, prefixes[span.heading_path], headers) for span in todo]
        counts = count_tokens([chunk.embedding_text(document.title) for chunk in chunks])
        again: list[_Span] = []
        for span, chunk, tokens in zip(todo, chunks, counts, strict=True):
            if tokens <= max_tokens or span.end - span.core == 1:
                ready.append((span, replace(chunk, tokens=tokens)))
            else:
                again += _halves(document.text, span)
        if not again:  # a chunk that would begin no later than the one before it goes without its overlap
            ready.sort(key=lambda pair: pair[0].core)
            behind = {b[0] for a, b in pairwise(ready) if b[1].char_start <= a[1].char_start}
            ready = [pair for pair in ready if pair[0] not in behind]
            again = [replace(span, start=span.core) for span in behind]
        todo = again
    ready.sort(key=lambda pair: pair[0].core)
    pages = [page.char_start for page in document.pages]
    for position, (_, chunk) in enumerate(ready):
        yield replace(
            chunk,
            position=position,
            page_first=_page(document, pages, chunk.char_start),
            page_last=_page(document, pages, chunk.char_end - 1),
        )


def _halves(text: str, span: _Span) -> list[_Span]:
    if span.start < span.core:
        return [replace(span, start=span.core)]
    middle = (span.core + span.end) // 2
    space = max(text.rfind(" ", span.core + 1, middle), text.rfind("\n", span.core + 1, middle)) + 1
    middle = space if space > span.core + (span.end - span.core) // 4 else middle
    # Less room for a table's header each time: in the end, the text alone has to fit.
    span = replace(span, budget=span.budget // 2)
    parts = (replace(span, end=middle), replace(span, start=middle, core=middle))
    return [part for part in parts if text[part.core : part.end].strip()]


def _chunk(document: Document, span: _Span, prefix: str | None, headers: _Headers) -> Chunk:
    """The span without blank lines before and white space after it; the first line keeps its indentation."""
    text = document.text[span.start : span.end]
    blank = len(text) - len(text.lstrip())
    blank = text.rfind("\n", 0, blank) + 1
    start, end = span.start + blank, span.start + len(text.rstrip())
    if header := headers.at(start, span.budget):
        whole = heading_prefix(document.title, span.heading_path) if prefix is None else prefix
        prefix = f"{whole}\n{header}" if whole else header
    return Chunk(0, document.text[start:end], start, end, None, None, span.heading_path, 0, prefix)


def _page(document: Document, starts: Sequence[int], at: int) -> int | None:
    """The page of a character; of several that start there the last, which has the text."""
    return document.pages[max(0, bisect_right(starts, at) - 1)].number if starts else None
