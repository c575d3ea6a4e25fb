"""Several questions in one message: each is answered by itself, and the reply holds all of them.

"What is the booking number? And when is breakfast?" A search, a table and a reader are asked one thing at a
time; of two they would answer one. The second is understood with the first before it, as in a conversation.

Invariants: every question stands above its answer, in the user's words; citations are counted through, a
stretch that two answers rest on once; `confidence` is that of the least certain answer that is given.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from ingest.types import Hit
from service import render
from service.answering.turn import Ask
from service.citations import Citation, Statement
from service.events import Checked, Event, Final, Sources, Timings, Token, Usage
from service.followup import Said

_JOINED = re.compile(r"^(?:and|or|but|so|also|then)\b[, ]*(?=\w+ \w+)", re.IGNORECASE)
#: The events of one question; the last one is `Final`.
Answers = Callable[[Ask], Iterator[Event]]


def answer(questions: Sequence[str], ask: Ask, one: Answers) -> Iterator[Event]:
    """The events of all these questions as one reply; `sources` come anew with each of them, all so far.

    Raises:
        whatever `one` raises.
    """
    finals: list[Final] = []
    history = ask.history
    for question in questions:
        cited, sources = _citations(finals), _sources(finals)
        # "And can I bring a dog?" leans on nothing once its "and" is gone; "and how much is it?" still does.
        alone = _JOINED.sub("", question)
        for event in one(replace(ask, question=alone, history=history)):
            match event:
                case Final():
                    finals.append(event)
                case Sources(hits, generation):
                    yield Sources(_once((*sources, *hits)), generation)
                    yield Token(_heading(question, first=not finals))
                case Checked(statement, citations):
                    new = _numbered((*cited, *citations))
                    yield Checked(statement, tuple(c for c in new if c not in cited))
                    cited = new
                case _:
                    yield event
        said = finals[-1].answer if finals[-1].answered else ""
        history = (*history, Said("user", question), Said("assistant", said))
    yield together(questions, finals)


def together(questions: Sequence[str], finals: Sequence[Final]) -> Final:
    """The replies to these questions as one."""
    given = [final for final in finals if final.answered]
    speaking = min(given or finals, key=lambda final: final.confidence or 0.0)
    citations = _citations(finals)
    markers = {_place(citation): citation.marker for citation in citations}
    statements: list[Statement] = []
    for question, final in zip(questions, finals, strict=True):
        new = {citation.marker: markers[_place(citation)] for citation in final.citations}
        statements.append(Statement(_heading(question, first=not statements), ours=True))
        statements += [replace(s, markers=tuple(new[m] for m in s.markers)) for s in final.statements]
    if not given and len({final.answer for final in finals}) == 1:
        statements = list(finals[0].statements)  # the same is said of all
    written = any(final.llm_generated for final in given)
    carried = any(final.standalone_question for final in finals)
    quoted = {final.quoted_by for final in given}
    return replace(
        speaking,
        answer=render.plain(statements),
        answer_html=render.html(statements, flag_unsupported=written),
        answered=bool(given),
        refusal_reason=None if given else speaking.refusal_reason,
        llm_generated=written,
        reasoning="\n\n".join(final.reasoning for final in finals if final.reasoning),
        standalone_question=" ".join(
            final.standalone_question or question for question, final in zip(questions, finals, strict=True)
        )
        if carried
        else None,
        citations=citations,
        statements=tuple(statements),
        sources=_sources(finals),
        checks={name: said for final in finals for name, said in final.checks.items()},
        quoted_by=speaking.quoted_by if len(quoted) == 1 else None,
        conflict=any(final.conflict for final in finals),
        usage=_used(finals),
        timings=_taken(finals),
    )


def _heading(question: str, *, first: bool) -> str:
    return f"{question}\n\n" if first else f"\n\n{question}\n\n"


def _place(citation: Citation) -> tuple[str, int, int]:
    return citation.document_id, citation.char_start, citation.char_end


def _numbered(citations: Sequence[Citation]) -> tuple[Citation, ...]:
    """Each stretch once, counted from 1."""
    found: dict[tuple[str, int, int], Citation] = {}
    for citation in citations:
        found.setdefault(_place(citation), citation)
    return tuple(replace(citation, marker=n) for n, citation in enumerate(found.values(), 1))


def _citations(finals: Sequence[Final]) -> tuple[Citation, ...]:
    return _numbered([citation for final in finals for citation in final.citations])


def _once(hits: Iterable[Hit]) -> tuple[Hit, ...]:
    found: dict[int, Hit] = {}
    for hit in hits:
        found.setdefault(hit.chunk_id, hit)
    return tuple(found.values())


def _sources(finals: Sequence[Final]) -> tuple[Hit, ...]:
    return _once([hit for final in finals for hit in final.sources])


def _used(finals: Sequence[Final]) -> Usage:
    used = [final.usage for final in finals]
    return Usage(
        prompt_tokens=sum(one.prompt_tokens for one in used),
        completion_tokens=sum(one.completion_tokens for one in used),
        context_tokens=sum(one.context_tokens for one in used),
        dropped_chunks=sum(one.dropped_chunks for one in used),
        cached_tokens=sum(one.cached_tokens for one in used),
    )


def _taken(finals: Sequence[Final]) -> Timings:
    timings = [final.timings for final in finals]
    return Timings(
        search_ms=round(sum(one.search_ms for one in timings), 2),
        first_token_ms=timings[0].first_token_ms,
        total_ms=round(sum(one.total_ms for one in timings), 2),
    )
