"""`/documents` and `/jobs`: what is in a collection, and the way in and out of it."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from collections.abc import AsyncIterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated

from fastapi import APIRouter, Query, Request, UploadFile
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import StreamingResponse
from fastapi.sse import format_sse_event
from pydantic import ValidationError
from python_multipart.multipart import parse_options_header
from starlette.datastructures import UploadFile as Uploaded

from ingest.fetch import Limits, fetch, normal
from ingest.fields import checked
from ingest.filters.text import LONGEST, parse
from ingest.pipeline import upload_path
from ingest.types import Value
from service import errors, problems
from service.deps import Parts, PartsDep
from service.errors import InvalidUpload, UploadTooLarge
from service.jobs import Job
from service.library import Upload
from service.schemas import (
    ChunkReply,
    ChunksReply,
    CollectionName,
    DeletedReply,
    DocumentPatch,
    DocumentReply,
    DocumentsReply,
    JobReply,
    JobsReply,
    TextReply,
    TextUpload,
)
from service.schemas.wire import composed

router = APIRouter(tags=["documents"])

Collection = Annotated[
    CollectionName | None, Query(description="the service's default collection if not given")
]
#: Of one web page.
PAGE_MB, PAGE_TIMEOUT_S = 32, 30.0
_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,12}")
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["files"],
                    "properties": {
                        "files": {"type": "array", "items": {"type": "string", "format": "binary"}},
                        "path": {"type": "string", "description": "what a single file will be known by"},
                        "collection": {"type": "string"},
                        "metadata": {"type": "string", "description": "fields of every file, as JSON"},
                    },
                }
            },
            "application/json": {"schema": TextUpload.model_json_schema()},
        },
    }
}


@router.get("/documents", summary="List documents", responses={**problems.declared(404, 500, 503)})
def list_documents(
    parts: PartsDep,
    collection: Collection = None,
    filter_: Annotated[
        str | None,
        Query(
            alias="filter",
            max_length=LONGEST,
            description='only documents that pass, as in: author = "Li" and year >= 2020',
        ),
    ] = None,
) -> DocumentsReply:
    """All documents of a collection, or those that pass the filter, by path."""
    name = collection or parts.settings.collection
    found = parts.library.documents(name, None if filter_ is None else parse(filter_))
    return DocumentsReply(documents=[DocumentReply.of(d) for d in found], collection=name, total=len(found))


@router.post(
    "/documents",
    status_code=202,
    summary="Upload files, a text or a page",
    openapi_extra=_BODY,
    responses={**problems.declared(409, 415, 429, 500, 503, 507)},
)
async def upload(request: Request, parts: PartsDep) -> JobReply:
    """Ingests files (multipart), a text or a web page (JSON) as a job; one of the same path is replaced."""
    content_type = sent_as(request)
    if content_type not in ("multipart/form-data", "application/json"):
        raise errors.UnsupportedMedia("send files as multipart/form-data, or a text as application/json")
    room = parts.jobs.new_folder()
    accepted = False
    try:
        receive = _receive_files if content_type == "multipart/form-data" else _receive_text
        collection, uploads = await receive(request, parts, room.path)
        named = request.query_params.get("collection")
        if named and collection and composed(named) != collection:
            raise InvalidUpload(
                f"the address names the collection {named!r}, the body {collection!r}; name one of them"
            )
        collection = collection or (composed(named) if named else None)
        job = parts.jobs.submit(collection or parts.settings.collection, uploads, room)
        accepted = True
    finally:
        if not accepted:
            room.remove()
    return JobReply.of(job)


def sent_as(request: Request) -> str:
    """The media type of a body.

    Raises:
        UnsupportedMedia: it names an encoding other than UTF-8, by which its names would be read.
    """
    kind, parameters = parse_options_header(request.headers.get("content-type", ""))
    if parameters.get(b"charset", b"utf-8").lower() not in (b"utf-8", b"utf8", b"us-ascii"):
        raise errors.UnsupportedMedia("send the body in UTF-8; leave the charset out of its Content-Type")
    return kind.decode("latin-1").strip().lower()


async def _receive_files(request: Request, parts: Parts, folder: Path) -> tuple[str | None, list[Upload]]:
    most = parts.settings.max_upload_files
    async with request.form(max_files=most, max_fields=8) as form:
        unknown = sorted(set(form) - {"files", "file", "path", "collection", "metadata"})
        if unknown:
            raise InvalidUpload(
                f"unknown form field {unknown[0]!r}; known are files, path, collection and metadata"
            )
        for name in ("path", "collection", "metadata"):  # one that went unheard would put files elsewhere
            given = form.getlist(name)
            if len(given) > 1 or any(isinstance(field, Uploaded) for field in given):
                raise InvalidUpload(f"the form field {name!r} must be there once, and be a text, not a file")
        files = [f for name in ("files", "file") for f in form.getlist(name) if isinstance(f, Uploaded)]
        named, collection = form.get("path"), form.get("collection")
        if not files:
            raise InvalidUpload("the form holds no file; put files into the field 'files'")
        if named is not None and len(files) > 1:
            raise InvalidUpload("'path' names one document, but there are several files")
        own = _fields(form.get("metadata"))
        uploads: list[Upload] = []
        for number, file in enumerate(files):
            path = upload_path(named if isinstance(named, str) else file.filename or "")
            uploads.append(Upload(path, folder / f"{number:04d}{safe_suffix(path)}", own=own))
            await run_in_threadpool(_save, file, uploads[-1].file)
    twice = sorted({u.path for u in uploads if sum(o.path == u.path for o in uploads) > 1})
    if twice:
        raise InvalidUpload(f"two files of this upload have the name {twice[0]!r}")
    return (composed(collection) if isinstance(collection, str) and collection else None), uploads


async def _receive_text(request: Request, parts: Parts, folder: Path) -> tuple[str | None, list[Upload]]:
    raw = await request.body()
    if len(raw) > parts.settings.max_upload_mb * 1_000_000:
        raise UploadTooLarge(f"the text is larger than {parts.settings.max_upload_mb} MB")
    try:
        body = TextUpload.model_validate_json(raw)
    except ValidationError as error:
        raise RequestValidationError([{**e, "loc": ("body", *e["loc"])} for e in error.errors()]) from error
    if body.url is not None:
        return body.collection, [await run_in_threadpool(_fetch, body.url, folder, parts, body.metadata)]
    path = upload_path(body.path or "")
    file = folder / f"0000{safe_suffix(path) or '.txt'}"
    await run_in_threadpool(file.write_text, body.text or "", encoding="utf-8", newline="")
    return body.collection, [Upload(path, file, own=body.metadata)]


def _fetch(url: str, folder: Path, parts: Parts, own: Mapping[str, Value | None] | None) -> Upload:
    """A web page as an upload. Only public addresses, whoever asks: the service's network is not theirs."""
    if not parts.settings.fetch_urls:
        raise InvalidUpload(
            "this service fetches no web pages: send the text itself, or set fetch_urls in [service]"
        )
    fetched = folder / "fetched"
    most = min(parts.settings.max_upload_mb, PAGE_MB) * 1_000_000
    page = fetch(url, fetched, Limits(most, PAGE_TIMEOUT_S))
    file = folder / f"0000{safe_suffix(page.name)}"
    fetched.rename(file)
    return Upload(page.name, file, url=normal(url), own=own)


def _fields(given: object) -> dict[str, Value | None] | None:
    """The form field `metadata`: a JSON object. Raises InvalidUpload, InvalidField."""
    if given is None:
        return None
    try:
        value = json.loads(given if isinstance(given, str) else "")
    except (ValueError, RecursionError) as error:
        raise InvalidUpload("'metadata' must be a JSON object, such as {\"year\": 2020}") from error
    if not isinstance(value, dict):
        raise InvalidUpload("'metadata' must be a JSON object, such as {\"year\": 2020}")
    return checked(value)


def _save(upload: UploadFile | Uploaded, file: Path) -> None:
    with file.open("wb") as out:
        shutil.copyfileobj(upload.file, out, 1 << 20)


def safe_suffix(path: str) -> str:
    """The suffix, where it is an ordinary one: bytes wait under names of our own."""
    suffix = PurePosixPath(path).suffix
    return suffix if _SUFFIX.fullmatch(suffix) else ""


@router.get(
    "/documents/{document_id}", summary="One document", responses={**problems.declared(404, 500, 503)}
)
def one_document(document_id: str, parts: PartsDep, collection: Collection = None) -> DocumentReply:
    """What the index knows about a document."""
    return DocumentReply.of(parts.library.document(collection or parts.settings.collection, document_id))


@router.patch(
    "/documents/{document_id}",
    summary="Set fields of a document",
    responses={**problems.declared(404, 409, 500, 503)},
)
def patch_document(
    document_id: str, body: DocumentPatch, parts: PartsDep, collection: Collection = None
) -> DocumentReply:
    """Sets, changes or (null) takes away fields that filters can ask for; they outlive a changed file."""
    name = collection or parts.settings.collection
    return DocumentReply.of(parts.library.annotate(name, document_id, body.metadata))


@router.delete(
    "/documents/{document_id}",
    summary="Delete a document",
    responses={**problems.declared(404, 409, 500, 503)},
)
def delete_document(document_id: str, parts: PartsDep, collection: Collection = None) -> DeletedReply:
    """Forgets a document with all that was made of it; when this returns, no search finds it."""
    name = collection or parts.settings.collection
    document = parts.library.document(name, document_id)
    parts.library.forget(name, document.document_id)
    return DeletedReply(document_id=document.document_id, path=document.path)


@router.get(
    "/documents/{document_id}/text",
    summary="A document's text",
    responses={**problems.declared(404, 500, 503)},
)
def document_text(  # noqa: PLR0917 - FastAPI passes them by name
    document_id: str,
    parts: PartsDep,
    collection: Collection = None,
    char_start: Annotated[int | None, Query(ge=0, lt=2**31)] = None,
    char_end: Annotated[int | None, Query(ge=0, lt=2**31)] = None,
    context: Annotated[
        int, Query(ge=0, le=100_000, description="characters on either side of the span")
    ] = 2000,
) -> TextReply:
    """The stored text that citations point into: whole, or a span of it with what is around it."""
    name = collection or parts.settings.collection
    document = parts.library.document(name, document_id)
    text = parts.library.text(name, document.document_id)
    head = TextReply(
        document_id=document.document_id, path=document.path, title=document.title, characters=len(text)
    )
    if char_start is None and char_end is None:
        return head.model_copy(update={"text": text})
    start = min(char_start or 0, len(text))
    end = max(start, min(len(text) if char_end is None else char_end, len(text)))
    window = {
        "char_start": start,
        "char_end": end,
        "before": text[max(0, start - context) : start],
        "passage": text[start:end],
        "after": text[end : end + context],
    }
    return head.model_copy(update=window)


@router.get(
    "/documents/{document_id}/chunks",
    summary="A document's passages",
    responses={**problems.declared(404, 500, 503)},
)
def document_chunks(document_id: str, parts: PartsDep, collection: Collection = None) -> ChunksReply:
    """The passages that were made of a document, in order."""
    name = collection or parts.settings.collection
    document = parts.library.document(name, document_id)
    chunks = parts.library.chunks(name, document.document_id)
    return ChunksReply(document_id=document.document_id, chunks=[ChunkReply.of(c) for c in chunks])


@router.get("/jobs", summary="Uploads", tags=["jobs"], responses={**problems.declared(500)})
def list_jobs(parts: PartsDep) -> JobsReply:
    """Uploads since the service started, newest first."""
    return JobsReply(jobs=[JobReply.of(j) for j in parts.jobs.jobs()])


@router.get("/jobs/{job_id}", summary="One upload", tags=["jobs"], responses={**problems.declared(404, 500)})
def one_job(job_id: str, parts: PartsDep) -> JobReply:
    """How far an upload has come, and what became of each file."""
    return JobReply.of(parts.jobs.job(job_id))


@router.delete(
    "/jobs/{job_id}", summary="Cancel an upload", tags=["jobs"], responses={**problems.declared(404, 500)}
)
def cancel_job(job_id: str, parts: PartsDep) -> JobReply:
    """It stops after the file it is at; what it has ingested stays. One that has ended stays as it is."""
    return JobReply.of(parts.jobs.cancel(job_id))


@router.get(
    "/jobs/{job_id}/events",
    summary="Progress of an upload",
    tags=["jobs"],
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "Events `progress`, then `final`; the data is the job.",
            "content": {"text/event-stream": {}},
        },
        **problems.declared(404, 500),
    },
)
async def job_events(job_id: str, parts: PartsDep) -> StreamingResponse:
    """The job whenever something about it changes, until it ends."""
    return StreamingResponse(
        _progress(parts.jobs.job(job_id)),
        media_type="text/event-stream",
        headers={"X-Accel-Buffering": "no"},  # else nginx hands progress out at the end
    )


async def _progress(job: Job) -> AsyncIterator[bytes]:
    last = ""
    while True:
        ended = job.finished_at is not None
        now = JobReply.of(job).model_dump_json()
        if ended or now != last:
            last = now
            yield format_sse_event(event="final" if ended else "progress", data_str=now)
        if ended:
            return
        await asyncio.sleep(0.2)
