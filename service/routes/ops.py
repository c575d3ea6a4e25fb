"""How the service is doing, and the page."""

from __future__ import annotations

import functools
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST

from service import problems
from service.access import access
from service.deps import PartsDep
from service.schemas import HealthReply, ReadyReply, WhoReply

router = APIRouter()
WEB = Path(__file__).resolve().parent.parent / "web"


@functools.cache
def running_version() -> str:
    """Of the installed package."""
    try:
        return version("lorebase")
    except PackageNotFoundError:  # run from a checkout that was never installed
        return "0+unknown"


@router.head("/healthz", include_in_schema=False)  # as monitors and load balancers ask
@router.get("/healthz", summary="Live", tags=["ops"], responses={**problems.declared(500)})
async def healthz() -> HealthReply:
    """The process answers."""
    return HealthReply(version=running_version())


@router.head("/readyz", include_in_schema=False)
@router.get(
    "/readyz",
    summary="Ready",
    tags=["ops"],
    response_model=ReadyReply,
    responses={
        503: {"model": ReadyReply, "description": "Still loading, or failed"},
        **problems.declared(500),
    },
)
async def readyz(request: Request, parts: PartsDep) -> JSONResponse:
    """200 when index and models are loaded, 503 before, with what is missing.

    `index` is the embedder and the default collection; another collection is opened when it is first asked
    for, and `notes` name those that could not be. Where keys are asked for, `notes` and the reasons of what
    has failed are for those that are held to no collection.
    """
    state = parts.readiness.state
    failing = request.app.state.parts.library.failing()  # of all collections, whoever calls
    notes = [f"collection {name!r} cannot be used: {why}" for name, why in failing.items()]
    notes += parts.answerer.calibrators.notes
    told = parts.readiness.parts()
    plain = {part: how if how in ("ready", "loading") else "failed" for part, how in told.items()}
    if (notes or plain != told) and not await run_in_threadpool(
        request.app.state.doorman.shows_all, access(request)
    ):
        notes, told = [], plain
    home = str(parts.home)
    shown = ReadyReply(
        status=state,
        parts={k: v.replace(home, "LOREBASE_HOME") for k, v in told.items()},
        notes=[note.replace(home, "LOREBASE_HOME") for note in notes],
    )
    headers = {"Retry-After": "2"} if state == "loading" else {}
    return JSONResponse(shown.model_dump(), 200 if state == "ready" else 503, headers)


@router.get("/whoami", summary="Who calls", tags=["ops"], responses={**problems.declared(500)})
async def whoami(request: Request) -> WhoReply:
    """What the key that was brought may do; without keys everybody is an admin."""
    return WhoReply.of(access(request))


@router.get(
    "/metrics",
    summary="Figures for Prometheus",
    tags=["ops"],
    response_class=Response,
    responses={
        200: {
            "description": "Prometheus's text format",
            "content": {"text/plain": {"schema": {"type": "string"}}},
        },
        **problems.declared(500),
    },
)
def metrics(parts: PartsDep) -> Response:
    """Requests, latencies, queues and slots, tokens, indexes, memory. Tells no path and no text."""
    return Response(parts.metrics.text(), media_type=CONTENT_TYPE_LATEST)


@router.head("/", include_in_schema=False)
@router.get("/", include_in_schema=False)
async def page() -> FileResponse:
    """The page."""
    return FileResponse(WEB / "index.html", media_type="text/html")
