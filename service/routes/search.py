"""`POST /search`: the passages, without an answer."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from fastapi import APIRouter, Request

from ingest.types import SearchResult
from service import errors
from service.deps import Parts, PartsDep
from service.routes.listening import listen
from service.runner import Ticket
from service.schemas import Passage, SearchReply, SearchRequest

router = APIRouter(tags=["search"])


@router.post("/search", summary="Find passages", responses={**errors.declared(404, 409, 429, 500, 503, 504)})
async def search(body: SearchRequest, request: Request, parts: PartsDep) -> SearchReply:
    """Passages by meaning, by words, or both; higher scores are better."""
    checked(parts, body)
    async with contextlib.aclosing(listen(request, submit_search(parts, body))) as events:
        found = await anext(events)
    return SearchReply(
        hits=[Passage.of(h) for h in found.hits],
        index_generation=found.generation,
        search_ms=round(found.search_ms, 2),
    )


def checked(parts: Parts, body: SearchRequest) -> None:
    """Pass if the query may be searched for.

    Raises:
        QuestionTooLong, NotReady: nothing was done for it.
    """
    most = parts.settings.max_question_chars
    if len(body.query) > most:
        raise errors.QuestionTooLong(
            f"the query has {len(body.query):,} characters; at most {most:,} "
            "are accepted (setting max_question_chars)."
        )
    parts.readiness.require("index")


def submit_search(parts: Parts, body: SearchRequest) -> Ticket[SearchResult]:
    """Queue a search. Raises Busy before any work was done for it."""
    return parts.search_runner.submit(lambda cancel: _search(parts, body, cancel), parts.settings.deadline_s)


def _search(parts: Parts, body: SearchRequest, _: threading.Event) -> Iterator[SearchResult]:
    source = parts.library.source(body.collection or parts.settings.collection)
    if source.search is None:
        yield SearchResult((), 0, 0.0)
    else:
        yield source.search.search(
            body.query,
            body.k or parts.settings.k,
            body.search_mode or parts.settings.search_mode,
            body.filters,
        )
