"""`/datasets` and `/runs`: sets to train on, and training runs that outlive page and service."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile

from service import problems
from service.deps import Parts, PartsDep
from service.errors import InvalidUpload, UnsupportedMedia
from service.routes.documents import sent_as
from service.schemas.workshop import (
    DataSetReply,
    DataSetsReply,
    MetricsReply,
    RunReply,
    RunRequest,
    RunsReply,
)
from service.workshop.runs import Seen

router = APIRouter(tags=["training"])

_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "string", "format": "binary"}},
                }
            }
        },
    }
}


@router.get("/datasets", summary="Uploaded sets", responses={**problems.declared(500)})
def list_datasets(parts: PartsDep) -> DataSetsReply:
    """Conversations to train on, and questions to compare with, the latest first."""
    return DataSetsReply(datasets=[DataSetReply.of(found) for found in parts.datasets.all()])


@router.post(
    "/datasets",
    status_code=201,
    summary="Upload a set",
    openapi_extra=_BODY,
    responses={**problems.declared(409, 415, 500, 507)},
)
async def upload_dataset(request: Request, parts: PartsDep) -> DataSetReply:
    """One JSON or JSON lines file: Alpaca's, ShareGPT's or the reading form, or questions with answers."""
    if sent_as(request) != "multipart/form-data":
        raise UnsupportedMedia("send the file as multipart/form-data, in the field 'file'")
    async with request.form(max_files=1, max_fields=1) as form:
        file = form.get("file")
        if not isinstance(file, UploadFile):
            raise InvalidUpload("the form holds no file; put it into the field 'file'")
        found = await run_in_threadpool(parts.datasets.add, file.filename or "", file.file)
    return DataSetReply.of(found)


@router.get("/datasets/{name}", summary="One set", responses={**problems.declared(404, 500)})
def one_dataset(name: str, parts: PartsDep) -> DataSetReply:
    """What it holds, and what is wrong with it."""
    return DataSetReply.of(parts.datasets.get(name))


@router.delete(
    "/datasets/{name}", summary="Delete a set", status_code=204, responses={**problems.declared(404, 500)}
)
def delete_dataset(name: str, parts: PartsDep) -> None:
    """Runs that have read it are not touched."""
    parts.datasets.delete(name)


@router.get("/runs", summary="Training runs", responses={**problems.declared(500)})
def list_runs(parts: PartsDep) -> RunsReply:
    """Those of the command line, too, the latest first."""
    return RunsReply(runs=[_reply(parts, seen) for seen in parts.training.all()])


@router.post(
    "/runs",
    status_code=201,
    summary="Train an adapter",
    responses={**problems.declared(404, 409, 500, 503)},
)
def start_run(body: RunRequest, parts: PartsDep) -> RunReply:
    """Begins a process that outlives the service; the adapter can be asked as soon as the run is finished."""
    settings = body.settings()
    settings.setdefault("model", parts.settings.model.partition("+")[0])
    return _reply(parts, parts.training.start(settings))


@router.get("/runs/{name}", summary="One training run", responses={**problems.declared(404, 500)})
def one_run(name: str, parts: PartsDep) -> RunReply:
    """How far it is, with the end of its log."""
    return _reply(parts, parts.training.get(name))


@router.delete("/runs/{name}", summary="Stop a training run", responses={**problems.declared(404, 500)})
def stop_run(name: str, parts: PartsDep) -> RunReply:
    """Asks it to save and end; `python -m model sft --resume NAME` goes on. A run that has ended stays."""
    return _reply(parts, parts.training.stop(name))


@router.get("/runs/{name}/metrics", summary="A run's curves", responses={**problems.declared(404, 500)})
def run_metrics(
    name: str,
    parts: PartsDep,
    after: Annotated[int, Query(ge=0, lt=2**31, description="only what comes after so many events")] = 0,
) -> MetricsReply:
    """Loss, learning rate and speed by step, and the validations."""
    events, following = parts.training.metrics(name, after)
    return MetricsReply(events=events, next=following)


def _reply(parts: Parts, seen: Seen) -> RunReply:
    return RunReply.of(seen, parts.training.command(seen.settings))
