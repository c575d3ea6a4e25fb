"""A second look in the other language, where no passage in the question's own answers it.

An embedder puts texts of one language closer together whatever they say, so in a collection with Chinese
and English documents a question is answered from those in its own language, and the passage that tells
stands behind hundreds that do not. Where these do not answer, the nearest passages of the documents that
are written in the other script are given to the span reader, which has learned from pairs in two languages
where an answer stands and whether there is one. So an answer in the question's own language always comes
first, and a collection in one language loses only the time of a search.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from ingest.fields import SCRIPT
from ingest.filters import All, Condition
from ingest.scripts import script
from ingest.types import Hit
from service.answering import quoted
from service.answering.turn import Turn
from service.events import Event
from service.quoting import CANDIDATES, best_sentences
from service.reading import orders
from service.reading.second import wants_few_words
from service.spans import candidates
from service.spans.quoter import read

#: A question's script to the one that is looked at then. Not from Latin letters to Chinese: such answers are
#: as often made up of a subject that no document has as they are right (benchmarks/log.md).
OTHER = {"CJK": "latin"}
#: Passages that are read of it, and the least probability of an answer.
PASSAGES, LEAST = 3, 0.15


def answer(turn: Turn) -> Iterator[Event]:
    """The answer in the words of a document in the other script; nothing at all where there is none.

    Raises:
        Cancelled: the question was withdrawn.
        IngestError, ModelError: what search and reader raise.
    """
    ask, quoter, before = turn.ask, turn.source.quoter, turn.reply.sources
    other = OTHER.get(script(ask.question))
    strict = ask.acceptable_error is not None or ask.on_no_answer != "refuse"
    if other is None or strict or quoter is None or turn.source.search is None:
        return
    if not wants_few_words(ask.question):
        return
    reader = quoter.reads(ask.question)
    if reader is None:
        return
    written_so = Condition(SCRIPT, "=", other)
    where = written_so if ask.where is None else All((ask.where, written_so))
    found = turn.source.search.search(ask.question, PASSAGES, ask.search_mode, where).hits
    known = {hit.chunk_id for hit in before}
    heard = orders.heard(ask.question, [hit for hit in found if hit.chunk_id not in known])
    if not heard.hits:
        return
    turn.check_cancel()
    fitting = best_sentences(ask.question, heard.hits, turn.source.similarity, CANDIDATES)
    readings = read(reader, ask.question, heard.hits, turn.cancel)
    turn.check_cancel()

    def weigh(some: Sequence[Hit]) -> list[candidates.Candidate]:
        seen = [reading for hit, reading in zip(heard.hits, readings, strict=True) if hit in some]
        return candidates.weigh(candidates.gather(ask.question, some, seen, fitting), quoter.calibrator)

    weighed = heard.trusted(weigh, LEAST)
    if not weighed or weighed[0].probability < LEAST:
        return
    turn.reply = replace(
        turn.reply,
        sources=(*before, *(hit for hit in found if hit.chunk_id not in known)),
        model=reader.name,
        reading=None,
        quoted_by="spans",
        calibrator=quoter.calibrator.name,
        calibrator_note=None,
        operating_point=None,
    )
    yield from quoted.reply(turn, weighed, fitting, LEAST)
