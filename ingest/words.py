"""Text to search terms: what the keyword arm stores and looks up.

One function serves both sides, so a document and a question are cut alike. Rules, in this order:

- Before all: characters that are not seen go, a word that a line's end cuts in two is also joined, commas go
  out of numbers, and a footnote's mark or a ™ parts from its word.
- NFKC: full-width and half-width forms, ligatures and compatibility characters become plain ones.
- Scripts written without spaces (Han, kana, Hangul, Thai, Lao, Khmer, Burmese) become overlapping pairs of
  characters; a run of one character stays one. Pairs need no dictionary and lose no word at a wrong cut.
- Other words are lower-cased, lose Latin and Greek diacritics (ø is o, æ ae) and are reduced to their English
  stem (Snowball).
- An identifier (`R123-78`, `deepseek-r1:1.5b`, `snake_case`, `CamelCase`, `a@b.org`, `2.13.0`) is kept whole
  and also gives its parts, so that both the exact code and a piece of it find the passage. What people write
  in two ways gives both: e-mail and email, U.S. and US, 978-3-16 and 978316, 500mg and 500 mg.

Invariant: a term holds letters, digits, marks and characters of `PUNCTUATION` only. The store declares
exactly those as token characters, so SQLite's tokenizer never cuts a term, and a term inside double quotes is
never query syntax.
"""

from __future__ import annotations

import re
import threading
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import Stemmer

#: Raise it when the same text gives other terms than before: the store then rebuilds its keyword index.
VERSION = 3
#: ASCII punctuation that may stand inside a term.
PUNCTUATION = "-._:/@=+#'"
#: Longer words are cut here; a base64 blob is not a word that anybody looks up.
LONGEST_TERM = 64

_STOPWORDS = (
    "a about after all also am an and any are as at be because been before being but by can could did do "
    "does doing for from had has have having he her here hers him his how i if in into is it its just may "
    "me might more most must my no not of on or our ours out over shall she should so some such than that "
    "the their theirs them then there these they this those to too under up us very was we were what when "
    "where which while who whom whose why will with would you your yours don doesn didn isn aren wasn "
    "weren won wouldn shouldn couldn t s re ve ll d m "
)

# Scripts without spaces between words. Han with its extensions and the iteration marks, kana with phonetic
# extensions, Hangul syllables and Jamo, bopomofo; then Thai and Lao, Burmese, Khmer.
_UNSPACED = (
    "\u3005-\u3007\u3021-\u3029\u3031-\u3035\u3041-\u3096\u3099-\u309f\u30a1-\u30fa\u30fc-\u30ff\u3105-\u312f"
    "\u31a0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
    "\u1100-\u11ff\u3131-\u318e\ua960-\ua97f\uac00-\ud7ff"
    "\u0e01-\u0e3a\u0e40-\u0e4e\u0e81-\u0ece\u1000-\u1049\u1780-\u17d3"
)
# `\w` leaves out combining marks, which would cut a Hindi or Tamil word at every vowel sign.
_MARKS = "".join(chr(c) for c in range(0x300, 0x2E80) if unicodedata.category(chr(c)) in ("Mn", "Mc"))
_LETTER = rf"(?:(?![{_UNSPACED}])[\w{_MARKS}])"
_RUN = re.compile(
    rf"(?P<unspaced>[{_UNSPACED}]+)"
    rf"|(?P<word>{_LETTER}+(?:[-.:/@='’]{{1,3}}{_LETTER}+)*(?:\+\+|\#)?)"
)
_ONE_UNSPACED = re.compile(rf"[{_UNSPACED}]")
_QUOTED = re.compile(r"\"[^\"]+\"|“[^“”]+”|「[^「」]+」|『[^『』]+』")
_BEGINNING = re.compile(r"(?<!\S)([^\s*]+)\*(?!\S)")
#: Before NFKC, which makes a comma of ，: 总价为，12,000元.
_THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:[,，]\d{3})+(?!\d|[,，]\d)")
_UNSEEN = re.compile("[\u00ad\u200b\u2060\ufeff]")
_HYPHENS = re.compile("[\u2010\u2011]")
_CUT_BY_LINE = re.compile(r"\b([^\W\d_]{2,})-[ \t]*\n[ \t]*([^\W\d_]{2,})\b")
#: A raised mark behind a word or a number, but for units (km²), and what stands for itself before a word.
_RAISED = re.compile(r"(?<=[^\W\d_]{4})(?=[¹²³⁰⁴-⁹])|(?<=\d)(?=[¹²³⁰⁴-⁹])|(?<=\w)(?=[™℠])|(?<=[①-⓿])(?=\w)")
_SINGLE_LETTERS = re.compile(r"(?:[^\W\d_]\.)+[^\W\d_]?\.?")
_FIRST_LETTER = re.compile(r"[^\W\d_]-[^\W\d_]+")
_DIGITS_APART = re.compile(r"\d+(?:-\d+)+")
_WITH_UNIT = re.compile(r"(\d+(?:\.\d+)?)(?!(?:st|nd|rd|th)$)([^\W\d_]{1,4})", re.IGNORECASE)
_HUMP = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_CAMEL = re.compile(r"[a-z][A-Z]|[A-Z]{2}[a-z]")
#: Outermost first: a model tag splits at its colon before its parts split at their dots.
_LEVELS = (re.compile(r"[:/@=]+"), re.compile(r"-+"), re.compile(r"[._'+#]+"))

#: Letters that Unicode does not take apart, as people without the key for them write them.
_STROKES = str.maketrans(
    {"ø": "o", "ł": "l", "đ": "d", "ð": "d", "ħ": "h", "ı": "i", "þ": "th", "æ": "ae", "œ": "oe"}
)

_stemmers = threading.local()  # a Snowball stemmer keeps state and must not be shared between threads


@lru_cache(maxsize=65536)
def _stem(word: str) -> str:
    """The English stem of a lower-case word; words of other alphabets pass unchanged."""
    if not word.isascii() or not word.isalpha():
        return word
    stemmer = getattr(_stemmers, "english", None)
    if stemmer is None:
        stemmer = _stemmers.english = Stemmer.Stemmer("english")
    return str(stemmer.stemWord(word))


def _fold(word: str) -> str:
    """Lower case, no diacritics on Latin and Greek letters (others carry meaning: Hindi vowels, й)."""
    word = word.casefold()
    if word.isascii():
        return word
    letters = unicodedata.normalize("NFD", word)
    if all(c < "\u0400" or "\u1e00" <= c < "\u2000" for c in letters):
        letters = "".join(c for c in letters if not "\u0300" <= c < "\u0370").translate(_STROKES)
    return unicodedata.normalize("NFKC", letters)


def _parts(word: str, level: int = 0) -> Iterator[str]:
    """The pieces of an identifier, coarse before fine; nothing for a plain word."""
    for deeper in range(level, len(_LEVELS)):
        pieces = [p for p in _LEVELS[deeper].split(word) if p]
        if len(pieces) > 1 or (pieces and pieces[0] != word):
            for piece in pieces:
                yield piece
                yield from _parts(piece, deeper + 1)
            return
    if _CAMEL.search(word):
        yield from (hump for hump in _HUMP.findall(word) if len(hump) > 1)


@lru_cache(maxsize=32768)  # half of indexing otherwise: texts are made of few words
def _word_terms(word: str) -> tuple[str, ...]:
    """Terms of one unbroken word: its stem, or an identifier whole and in parts."""
    word = word.replace("’", "'")
    if word[-2:] in ("'s", "'S"):
        word = word[:-2]
    found = (_stem(_fold(piece))[:LONGEST_TERM] for piece in (word, *_parts(word), *_otherwise(word)))
    return tuple(dict.fromkeys(term for term in found if term))


def _otherwise(word: str) -> Iterator[str]:
    """Other forms in which people write the same word."""
    if _SINGLE_LETTERS.fullmatch(word) and len(word) > 2:
        yield word.replace(".", "")
    elif _FIRST_LETTER.fullmatch(word) or _DIGITS_APART.fullmatch(word):
        yield word.replace("-", "")
    elif found := _WITH_UNIT.fullmatch(word):
        yield from found.groups()


def _plain(text: str) -> str:
    """The text with its words whole and its characters plain."""
    text = _HYPHENS.sub("-", _UNSEEN.sub("", text))
    text = _CUT_BY_LINE.sub(r"\1\2 \1-\2", text)
    text = _THOUSANDS.sub(lambda m: m.group().replace(",", "").replace("，", ""), text)
    return unicodedata.normalize("NFKC", _RAISED.sub(" ", text))


def _written(text: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each word or run of a text as it is written, with its terms."""
    for match in _RUN.finditer(_plain(text)):
        if (run := match["unspaced"]) is not None:
            yield run, tuple(run[i : i + 2] for i in range(len(run) - 1)) or (run,)
        elif found := tuple(t for t in _word_terms(match["word"].strip("_") or "_") if t.strip("_")):
            yield match["word"], found


def terms(text: str) -> list[str]:
    """The search terms of a text, in order, repetitions kept (they are the term frequencies of BM25)."""
    return [term for _, found in _written(text) for term in found]


def indexed(text: str) -> list[str]:
    """What the index holds of a passage: its terms, and of each run of several characters the last one.

    Every character then begins a term, so that one alone is looked up as a beginning (`read_query`). They
    stand behind all others: terms of a phrase stay next to each other.
    """
    found: list[str] = []
    last: list[str] = []
    for word, some in _written(text):
        found += some
        if len(word) > 1 and _ONE_UNSPACED.fullmatch(word[-1]):
            last.append(word[-1])
    return found + last


@dataclass(frozen=True, slots=True)
class Exact:
    """Something that is looked up as it is written."""

    terms: tuple[str, ...]  #: in a row; of a beginning: alternatives
    is_prefix: bool = False  #: any term that begins like one of `terms`


@dataclass(frozen=True, slots=True)
class Query:
    """A query as the keyword arm sees it."""

    terms: tuple[str, ...]  #: distinct, see `query_terms`; the words of phrases among them
    exact: tuple[Exact, ...] = ()


def read_query(text: str) -> Query:
    """A query with its phrases (`"red tortoise"`) and beginnings of words (`tortoi*`).

    A quote that is never closed and a star that stands alone are no syntax. The words of a phrase count one
    by one as well, so that a passage with some of them is not nothing. A beginning is compared with terms,
    which for English words are stems: `gardens*` finds what `garden*` finds.
    """
    exact: dict[Exact, None] = {}
    for match in _QUOTED.finditer(text):
        if found := tuple(terms(match.group()[1:-1])):
            exact[Exact(found)] = None
    unquoted = _QUOTED.sub(" ", text)
    for match in _BEGINNING.finditer(unquoted):
        if (beginning := _beginning(match[1])) is not None:
            exact[beginning] = None
    plain = _QUOTED.sub(lambda m: f" {m.group()[1:-1]} ", _BEGINNING.sub(" ", text) if exact else text)
    asked = tuple(query_terms(plain)) if plain.strip() else ()
    if not exact and asked and all(_ONE_UNSPACED.fullmatch(term) for term in asked):
        return Query(asked, tuple(Exact((term,), is_prefix=True) for term in asked))
    return Query(asked, tuple(exact))


def _beginning(word: str) -> Exact | None:
    """What terms of words with this beginning begin with: it, or its stem where stemming changes it."""
    whole = terms(word)
    folded = _fold(unicodedata.normalize("NFKC", word))[:LONGEST_TERM]
    run = _RUN.fullmatch(folded)
    if run is None or not whole:
        return None
    if run["unspaced"] is not None and len(folded) > 2:  # pairs in a row say the same
        return Exact(tuple(whole))
    return Exact(tuple(dict.fromkeys((folded, whole[0]))), is_prefix=True)


def query_terms(text: str) -> list[str]:
    """The distinct terms of a question, in order; English function words go where other words remain.

    What is written like a name is none: vitamin D, the US, WHO guidelines, a report of May.
    """
    words = list(_written(without_asking(text))) or list(_written(text))
    shouted = text.upper() == text
    distinct, telling = dict[str, None](), dict[str, None]()
    for at, (word, found) in enumerate(words):
        named = word == "May" if at else False
        named = named or (word.isupper() and not shouted and word != "I" and (at > 0 or len(word) > 1))
        distinct.update(dict.fromkeys(found))
        telling.update(dict.fromkeys(term for term in found if named or not _is_stopword(term)))
    return list(telling or distinct)


def without_asking(text: str) -> str:
    """A Chinese text without the words that ask: cut in pairs, 什么时候退 has 候退, which is rare."""
    return _ASKING.sub(" ", text)


def _is_stopword(term: str) -> bool:
    return all(part in _STOPWORD_TERMS for part in term.split("'"))  # "don't" is made of two


_ASKING = re.compile(
    r"什[么麼](?:时候|時候|时间|時間|样|樣)?|多(?:久|少|长时间|長時間)|怎[么麼样樣]|如何|[为為](?:什[么麼]|何)|能不能|可不可以|可以|能否|是否|请问|請問"
)

_STOPWORD_TERMS = frozenset(_stem(word) for word in _STOPWORDS.split())
