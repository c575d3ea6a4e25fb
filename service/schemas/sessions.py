"""Conversations that the service remembers."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from service import render
from service.schemas.wire import Reply
from service.sessions import Exchange, Place, Session

SessionName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,64}$")]


class PlaceReply(Reply):
    """Where a sentence of an answer stood; offsets are code points into the document's text."""

    marker: int
    document_id: str
    path: str
    title: str
    page_first: int | None
    page_last: int | None
    char_start: int
    char_end: int

    @classmethod
    def of(cls, place: Place) -> PlaceReply:
        """From the kept form."""
        return cls.model_validate(place, from_attributes=True)


class TurnReply(Reply):
    """One question and what became of it."""

    id: str
    question: str
    standalone_question: str | None
    answer: str
    answer_html: str = Field(description="sanitised; its markers lead to the citations")
    answered: bool
    refusal_reason: str | None
    collection: str
    mode: str
    model: str
    citations: list[PlaceReply] = Field(
        description="the places, without their text: a document may have changed, or be gone, since"
    )
    asked_at: str

    @classmethod
    def of(cls, turn: Exchange) -> TurnReply:
        """From the kept form."""
        told = {name: getattr(turn, name) for name in cls.model_fields if name != "answer_html"}
        html = render.recalled(turn.answer, {place.marker for place in turn.citations})
        told["citations"] = [PlaceReply.of(place) for place in turn.citations]
        return cls(**told, answer_html=html)


class SessionReply(Reply):
    """One conversation in figures."""

    id: str
    title: str = Field(description="its first question, cut")
    turns: int
    created_at: str
    updated_at: str

    @classmethod
    def of(cls, session: Session) -> SessionReply:
        """From the kept form."""
        return cls.model_validate(session, from_attributes=True)


class SessionsReply(Reply):
    """The caller's conversations, the last used first."""

    sessions: list[SessionReply]


class ConversationReply(SessionReply):
    """One conversation with what was said, oldest turn first."""

    history: list[TurnReply]
