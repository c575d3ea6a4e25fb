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
from service.schemas import Passage, SearchReply, SearchRequest

router = APIRouter(tags=["search"])


@router.post("/search", summary="Find passages", responses={**errors.declared(404, 409, 429, 500, 503, 504)})
async def search(body: SearchRequest, request: Request, parts: PartsDep) -> SearchReply:
    """Passages by meaning, by words, or both; higher scores are better."""
    settings = parts.settings
    if len(body.query) > settings.max_question_chars:
        raise errors.QuestionTooLong(
            f"the query has {len(body.query):,} characters; at most {settings.max_question_chars:,} "
            "are accepted (setting max_question_chars)."
        )
    parts.readiness.require("index")
    ticket = parts.search_runner.submit(lambda cancel: _search(parts, body, cancel), settings.deadline_s)
    async with contextlib.aclosing(listen(request, ticket)) as events:
        found = await anext(events)
    return SearchReply(
        hits=[Passage.of(h) for h in found.hits],
        index_generation=found.generation,
        search_ms=round(found.search_ms, 2),
    )


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
