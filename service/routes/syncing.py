"""`POST /documents/sync`: what a folder elsewhere and a collection differ in, so that only that is sent."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from ingest.errors import UnknownDocument
from ingest.pipeline import upload_path
from ingest.types import StoredDocument
from service import errors, problems
from service.deps import Parts, PartsDep
from service.errors import InvalidUpload
from service.routes.documents import sent_as
from service.schemas.syncing import Manifest, SyncReply

router = APIRouter(tags=["documents"])


def _schema() -> dict[str, Any]:
    """Of the body, without references, which would point out of the OpenAPI document."""
    schema = Manifest.model_json_schema()
    schema["properties"]["files"]["items"] = schema.pop("$defs")["ManifestEntry"]
    return schema


@router.post(
    "/documents/sync",
    summary="Compare a collection with a folder",
    openapi_extra={"requestBody": {"required": True, "content": {"application/json": {"schema": _schema()}}}},
    responses={**problems.declared(404, 409, 415, 500)},
)
async def sync(request: Request, parts: PartsDep) -> SyncReply:
    """Names the files to upload to `POST /documents`, and the documents that the folder no longer has.

    Identity is the path, and the hash of the bytes decides whether a file changed. Unless `forget` is set,
    nothing is changed. The folder must be told as a whole, or its part as a whole with `prefix`.
    """
    if sent_as(request) != "application/json":
        raise errors.UnsupportedMedia("send the manifest as application/json")
    raw = await request.body()
    return await run_in_threadpool(_compare, parts, raw)  # a manifest of a large folder takes its time


def _compare(parts: Parts, raw: bytes) -> SyncReply:
    try:
        body = Manifest.model_validate_json(raw)
    except ValidationError as error:
        raise RequestValidationError([{**e, "loc": ("body", *e["loc"])} for e in error.errors()]) from error
    name = body.collection or parts.settings.collection
    told: dict[str, tuple[str, str]] = {}  # by path: as it came, and its hash
    for entry in body.files:
        path = upload_path(entry.path)
        if path in told:
            raise InvalidUpload(f"two files of this manifest have the name {path!r}")
        told[path] = entry.path, "sha256:" + entry.hash.lower().removeprefix("sha256:")
    there = {d.path: d for d in parts.library.documents(name) if d.path.startswith(body.prefix)}
    gone = [document for path, document in there.items() if path not in told]
    modified = [p for p, (_, found) in told.items() if p in there and there[p].content_hash != found]
    added = [path for path in told if path not in there]
    return SyncReply(
        collection=name,
        added=[told[path][0] for path in added],
        modified=[told[path][0] for path in modified],
        deleted=[document.path for document in gone],
        unchanged=len(told) - len(added) - len(modified),
        forgotten=_forget(parts, name, gone) if body.forget else 0,
    )


def _forget(parts: Parts, collection: str, documents: Sequence[StoredDocument]) -> int:
    count = 0
    for document in documents:
        with contextlib.suppress(UnknownDocument):  # somebody else was faster
            parts.library.forget(collection, document.document_id)
            count += 1
    return count
