"""`POST /ask`: one JSON document, or server-sent events."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from dataclasses import dataclass, replace

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse
from fastapi.sse import format_sse_event
from pydantic import BaseModel

from service import errors, problems
from service.access import access
from service.answer import Ask, Source
from service.deps import Parts, PartsDep
from service.events import Checked, Event, Final, Reasoning, Sources, Token
from service.models import Choice
from service.reranking import until
from service.routes.listening import listen
from service.runner import Ticket
from service.schemas import AskReply, AskRequest, CitationReply, Passage, Reply
from service.sessions import Exchange

router = APIRouter(tags=["ask"])


class SourcesEvent(Reply):
    """Data of the event `sources`."""

    sources: list[Passage]
    index_generation: int


class PieceEvent(Reply):
    """Data of the events `token` and `reasoning`."""

    text: str


_STREAM = {
    "description": "The reply; with `stream: true`, events `sources`, `reasoning`, `token`, `citation`, "
    "then `final` (the whole reply) or `error`. Tokens are a draft, `final` counts.",
    "content": {
        "text/event-stream": {
            "schema": {  # of each event: before OpenAPI 3.2 there is no other place for it
                "type": "object",
                "properties": {
                    "event": {"enum": ["sources", "reasoning", "token", "citation", "final", "error"]},
                    "data": {"type": "string", "description": "JSON"},
                },
                "required": ["event", "data"],
            },
            "example": {"event": "token", "data": '{"text": "Run"}'},
        }
    },
}


@router.post(
    "/ask",
    response_model=AskReply,
    summary="Ask a question",
    responses={200: _STREAM, **problems.declared(404, 409, 429, 500, 502, 503, 504)},
)
async def ask(body: AskRequest, request: Request, parts: PartsDep) -> AskReply | StreamingResponse:
    """Answers from the documents with citations that can be checked, or refuses and says why."""
    events = listen(request, submit(prepare(parts, body, access(request).id)))
    if body.stream:
        first = await anext(events)  # what goes wrong before it still gets its own status
        return StreamingResponse(
            _wire(parts, first, events), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"}
        )
    async with contextlib.aclosing(events):
        async for event in events:
            if isinstance(event, Final):
                return AskReply.of(event)
    raise errors.ServiceError("the answer ended without a reply")


@dataclass(frozen=True, slots=True)
class Prepared:
    """A question that passed every check that costs nothing."""

    parts: Parts
    ask: Ask
    choice: Choice
    session: tuple[str, str] | None = None  #: owner and name of the conversation that it belongs to

    def run(self, cancel: threading.Event) -> Iterator[Event]:
        """The job: blocks, runs in a slot's thread."""
        parts = self.parts
        source = Source(None) if self.ask.mode == "closed_book" else parts.library.source(self.ask.collection)
        ask = replace(self.ask, reranker=until(self.ask.reranker, cancel))
        if self.session is not None:  # now, not before it waited: what waited in front of it belongs to it
            ask = replace(ask, history=parts.sessions.history(*self.session))
        for event in parts.answerer.answer(ask, source, self.choice.get(), cancel):
            if self.session is not None and isinstance(event, Final):
                parts.sessions.add(*self.session, Exchange.of(ask.question, ask.collection, event))
            yield event


def prepare(parts: Parts, body: AskRequest, owner: str = "") -> Prepared:
    """Check a question against limits, readiness and models; `owner` is whose conversations are meant.

    Raises:
        QuestionTooLong, NotReady, WeightsMissing, UnknownModel: nothing was done for it.
    """
    settings = parts.settings
    if len(body.asked) > settings.max_question_chars:
        raise errors.QuestionTooLong(
            f"the question has {len(body.asked):,} characters; at most {settings.max_question_chars:,} "
            "are accepted (setting max_question_chars). Put long texts into the documents and ask about them."
        )
    choice = parts.models.choose(body.model)
    if choice.own and choice.default:
        parts.readiness.require("generator")
    collection = body.collection or settings.collection
    if body.mode != "closed_book":
        parts.require_index(collection)
    asked = Ask(
        question=body.asked,
        history=body.history,
        collection=collection,
        mode=body.mode,
        reading=body.reading,
        k=body.k or settings.k,
        search_mode=body.search_mode or settings.search_mode,
        where=body.filters,
        reranker=None if body.mode == "closed_book" else parts.reranking.wanted(body.rerank),
        context=body.context,
        on_no_answer=body.on_no_answer,
        acceptable_error=body.acceptable_error
        if body.acceptable_error is not None
        else settings.acceptable_error,
        sampling=body.sampling(settings.longest(own=choice.own)),
    )
    return Prepared(parts, asked, choice, None if body.session_id is None else (owner, body.session_id))


def submit(prepared: Prepared) -> Ticket[Event]:
    """Queue a question. Raises Busy before any work was done for it."""
    parts = prepared.parts
    runner = parts.runner if prepared.choice.own else parts.upstream_runner
    return runner.submit(prepared.run, parts.settings.deadline_s)


async def _wire(parts: Parts, first: Event, rest: AsyncGenerator[Event]) -> AsyncIterator[bytes]:
    """Events as they go over the wire; what goes wrong now is a last event `error`."""
    try:
        for name, data in _named(first):
            yield _line(name, data)
        async for event in rest:
            for name, data in _named(event):
                yield _line(name, data)
    except Exception as error:
        _, body, _ = problems.problem(error, parts.home)
        yield _line("error", problems.error_reply(body))
    finally:
        await rest.aclose()


def _named(event: Event) -> list[tuple[str, BaseModel]]:
    match event:
        case Sources(hits, generation):
            return [
                ("sources", SourcesEvent(sources=[Passage.of(h) for h in hits], index_generation=generation))
            ]
        case Reasoning(text):
            return [("reasoning", PieceEvent(text=text))]
        case Token(text):
            return [("token", PieceEvent(text=text))]
        case Checked(_, citations):
            return [("citation", CitationReply.of(c)) for c in citations]
        case Final():
            return [("final", AskReply.of(event))]


def _line(name: str, data: BaseModel) -> bytes:
    return format_sse_event(event=name, data_str=data.model_dump_json())
