"""Which passages of a collection questions are written on, and which of its documents belong together.

Documents that share a passage (copies, forms) are one family: what is trained on one of them must not be
asked of another. Invariant: a passage's key is a hash of what the writer reads, so a passage that has been
worked on is known again wherever it stands, and one that has changed is not.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from ingest import words
from ingest.scripts import script
from ingest.types import Chunk, Hit, StoredDocument, heading_prefix
from service.library import Library
from service.reading.form import passage_text
from service.reading.rows import dice, normal

#: A passage with fewer words (Chinese: characters) has little to ask about.
LEAST_WORDS = 12
#: Least share of words that carry grammar (English has twice as many, other languages in Latin letters half),
#: and most of the characters that are Chinese, Japanese or Korean, where the writer writes English only.
ENGLISH, MOST_CJK = 0.2, 0.05

_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
TOO_SHORT, OTHER_LANGUAGE, REPEATED = "too short", "in a language that the writer does not write", "repeated"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A passage that questions can be written on."""

    hit: Hit  #: as a search would give it
    heading: str
    family: str  #: documents that share a passage have one

    @property
    def key(self) -> str:
        """A hash of what is read of it."""
        told = passage_text(self.heading, self.hit.text)
        return hashlib.sha256(told.encode("utf-8", "replace")).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Collected:
    """The passages of a collection, in the order in which they are worked on."""

    passages: tuple[Candidate, ...] = ()
    skipped: Counter[str] = field(default_factory=Counter)  #: reason -> passages
    documents: tuple[StoredDocument, ...] = ()


def collect(library: Library, collection: str, *, cjk: bool, seed: int = 0) -> Collected:
    """The passages of a collection that questions can be written on.

    Args:
        library: the collections.
        collection: which one.
        cjk: whether the writer writes Chinese, Japanese and Korean, and any other language.
        seed: of the order.

    Raises:
        UnknownCollection: no collection of that name.
    """
    documents = library.documents(collection)
    found: list[tuple[StoredDocument, Chunk]] = []
    skipped: Counter[str] = Counter()
    for document in documents:
        for chunk in library.chunks(collection, document.document_id):
            if reason := unfit(chunk.text, cjk=cjk):
                skipped[reason] += 1
            else:
                found.append((document, chunk))
    families = _families(found)
    seen: set[str] = set()
    passages = []
    for number, (document, chunk) in enumerate(found, 1):
        text = normal(chunk.text)
        if text in seen:
            skipped[REPEATED] += 1
            continue
        seen.add(text)
        heading = heading_prefix(document.title, chunk.heading_path)
        passages.append(Candidate(Hit.of(document, chunk, number, 1.0), heading, families[document.path]))
    passages.sort(key=lambda passage: dice(seed, "order", passage.key).random())
    return Collected(tuple(passages), skipped, tuple(documents))


def unfit(text: str, *, cjk: bool) -> str | None:
    """Why nothing is asked about a passage; None where something can be."""
    spaced = words.terms(text)
    if len(spaced) < LEAST_WORDS:
        return TOO_SHORT
    if cjk:
        return None
    telling = words.query_terms(text)
    if len(_CJK.findall(text)) > MOST_CJK * len(text):
        return OTHER_LANGUAGE
    english = script(text) == "LATIN" and 1 - len(telling) / len(spaced) >= ENGLISH
    return None if english else OTHER_LANGUAGE


def _families(found: Sequence[tuple[StoredDocument, Chunk]]) -> dict[str, str]:
    """Path -> the least path of the documents that it shares a passage with, directly or not."""
    parent = {document.path: document.path for document, _ in found}

    def root(path: str) -> str:
        while parent[path] != path:
            path = parent[path]
        return path

    first: dict[str, str] = {}
    for document, chunk in found:
        one, other = root(first.setdefault(normal(chunk.text), document.path)), root(document.path)
        parent[max(one, other)] = min(one, other)
    return {path: root(path) for path in parent}
