"""`/evaluations`: ways of answering, compared on questions with known answers."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import FileResponse

from service import problems
from service.deps import PartsDep
from service.errors import UnknownName
from service.routes.sending import OpenedFile
from service.schemas.workshop import EvaluationReply, EvaluationRequest, EvaluationsReply

router = APIRouter(tags=["evaluations"])

#: The report brings its styles along. It may load nothing, run nothing, and stands in our own page only.
_SANDBOX = {
    "Content-Security-Policy": "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'self'",
    "X-Frame-Options": "SAMEORIGIN",
}


@router.get("/evaluations", summary="Comparisons", responses={**problems.declared(500)})
def list_evaluations(parts: PartsDep) -> EvaluationsReply:
    """Those of the command line, too, the latest first."""
    return EvaluationsReply(evaluations=[EvaluationReply.of(found) for found in parts.comparisons.all()])


@router.post(
    "/evaluations",
    status_code=201,
    summary="Compare ways of answering",
    responses={**problems.declared(404, 409, 500)},
)
def start_evaluation(body: EvaluationRequest, parts: PartsDep) -> EvaluationReply:
    """Begins a process that outlives the service; the same name goes on where it stopped."""
    flags = body.flags()
    flags.setdefault("collection", parts.settings.collection)
    flags.setdefault("model", parts.settings.model)
    return EvaluationReply.of(parts.comparisons.start(body.name, body.questions, flags))


@router.get("/evaluations/{name}", summary="One comparison", responses={**problems.declared(404, 500)})
def one_evaluation(name: str, parts: PartsDep) -> EvaluationReply:
    """How far it is, and its report where there is one."""
    return EvaluationReply.of(parts.comparisons.get(name), parts.comparisons.report(name))


@router.delete("/evaluations/{name}", summary="Stop a comparison", responses={**problems.declared(404, 500)})
def stop_evaluation(name: str, parts: PartsDep) -> EvaluationReply:
    """It writes the report of what was answered. One that has ended stays as it is."""
    return EvaluationReply.of(parts.comparisons.stop(name))


@router.get(
    "/evaluations/{name}/report.html",
    summary="A comparison's report as a page",
    response_class=FileResponse,
    responses={200: {"content": {"text/html": {}}}, **problems.declared(404, 500)},
)
def report_page(name: str, parts: PartsDep) -> FileResponse:
    """One file without scripts; it may load nothing and stand in this service's own page only."""
    gone = UnknownName(f"the report of the comparison {name} has just been removed")
    return OpenedFile(parts.comparisons.page(name), gone, media_type="text/html", headers=_SANDBOX)
