"""Questions to tables of texts, for the tests of what whole tables say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ingest.types import Document
from service.questions import tabular
from service.tables.telling import Told, tell_all
from service.tables.whole import grids
from tests.service.reading_engine import hit

BOATS = """# Boats for hire

| Boat | Harbour | Fee per day | Length (m) | Built | Seats |
| --- | --- | --- | --- | --- | --- |
| Heron | Kiel | $1,250.00 | 14.5 | 1998-05-01 | 12 |
| Little Auk | Bergen | $95.50 | 5.2 | 2019-07-30 | 4 |
| Osprey | Kiel | $640.00 | 14.5 | 2004-03-12 |  |
| Petrel | Visby | $310.00 | 9.9 | 2011-11-05 | 6 |
| Total | | $2,295.50 | | | 22 |
"""


def ask(question: str, *texts: str) -> Told | None:
    """What the tables of these documents say."""
    documents = {str(number): Document(text, "", ()) for number, text in enumerate(texts)}
    hits = [
        replace(hit(text), document_id=name, title="") for name, text in zip(documents, texts, strict=True)
    ]
    form = tabular.form(question)
    return None if form is None else tell_all(form, grids(hits, documents.__getitem__))


def said(question: str, *texts: str) -> tuple[str, Sequence[str], Sequence[str]] | None:
    """The way, the values and the rows' names."""
    told = ask(question, *texts)
    return None if told is None else (told.way, list(told.values), list(told.names))
