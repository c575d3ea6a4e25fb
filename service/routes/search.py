"""`POST /search`: the passages, without an answer."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from fastapi import APIRouter, Request

from ingest.rerank import Reranked, Reranker
from ingest.types import SearchResult
from ingest.widening import Surroundings, surroundings
from service import errors, problems, tracing
from service.deps import Parts, PartsDep
from service.reranking import LikelihoodReranker, until
from service.routes.listening import listen
from service.runner import Ticket
from service.schemas import SearchReply, SearchRequest
from service.schemas.asking import FoundPassage

router = APIRouter(tags=["search"])


@router.post(
    "/search", summary="Find passages", responses={**problems.declared(404, 409, 429, 500, 503, 504)}
)
async def search(body: SearchRequest, request: Request, parts: PartsDep) -> SearchReply:
    """Passages by meaning, by words, or both; higher scores are better."""
    checked(parts, body)
    async with contextlib.aclosing(listen(request, submit_search(parts, body))) as events:
        result, sections = await anext(events)
    return SearchReply(
        hits=[FoundPassage.found(hit, section) for hit, section in zip(result.hits, sections, strict=True)],
        index_generation=result.generation,
        search_ms=round(result.search_ms, 2),
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
    parts.require_index(body.collection or parts.settings.collection)


#: What was found, and the section around each passage where that was asked for.
Found = tuple[SearchResult, tuple[Surroundings | None, ...]]


def submit_search(parts: Parts, body: SearchRequest) -> Ticket[Found]:
    """Queue a search.

    Raises:
        UnsupportedField, RerankerError: it shall be reranked, and nobody is there to do it.
        Busy: no work was done for it.
    """
    reranker = parts.reranking.wanted(body.rerank)
    runner = parts.runner if isinstance(reranker, LikelihoodReranker) else parts.search_runner
    return runner.submit(lambda cancel: _search(parts, body, reranker, cancel), parts.settings.deadline_s)


def _search(
    parts: Parts, body: SearchRequest, reranker: Reranker | None, cancel: threading.Event
) -> Iterator[Found]:
    reranker = until(reranker, cancel)
    source = parts.library.source(body.collection or parts.settings.collection)
    if source.search is None:
        yield SearchResult((), 0, 0.0), ()
    else:
        search = source.search if reranker is None else Reranked(source.search, reranker)
        with tracing.span("retrieval", lorebase__collection=body.collection) as span:
            found = search.search(
                body.query,
                body.k or parts.settings.k,
                body.search_mode or parts.settings.search_mode,
                body.filters,
            )
            span.set(lorebase__hits=len(found.hits), lorebase__index_generation=found.generation)
        wide = source.parsed if body.context == "section" else None
        yield found, tuple(surroundings(hit, wide) if wide else None for hit in found.hits)
