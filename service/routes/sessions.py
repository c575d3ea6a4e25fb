"""`/sessions`: what the caller has asked in conversations that the service remembers."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request

from service import problems
from service.access import Access, access
from service.deps import PartsDep
from service.schemas.sessions import ConversationReply, SessionReply, SessionsReply, TurnReply

router = APIRouter(tags=["sessions"])


async def _caller(request: Request) -> Access:
    """Who calls; `async` as `service.deps.parts` is."""
    return access(request)


Caller = Annotated[Access, Depends(_caller)]


@router.get("/sessions", summary="Conversations", responses={**problems.declared(500, 503)})
def list_sessions(parts: PartsDep, caller: Caller) -> SessionsReply:
    """The caller's, the last used first. `POST /ask` with a `session_id` makes and continues one."""
    return SessionsReply(sessions=[SessionReply.of(s) for s in parts.sessions.all(caller.id)])


@router.get(
    "/sessions/{session_id}", summary="One conversation", responses={**problems.declared(404, 500, 503)}
)
def one_session(session_id: str, parts: PartsDep, caller: Caller) -> ConversationReply:
    """What was asked and answered, oldest turn first."""
    session, turns = parts.sessions.one(caller.id, session_id)
    told = SessionReply.of(session).model_dump()
    return ConversationReply(**told, history=[TurnReply.of(turn) for turn in turns])


@router.delete(
    "/sessions/{session_id}",
    summary="Forget a conversation",
    status_code=204,
    responses={**problems.declared(404, 500, 503)},
)
def delete_session(session_id: str, parts: PartsDep, caller: Caller) -> None:
    """With everything that was said in it."""
    parts.sessions.delete(caller.id, session_id)
