"""`/collections`: knowledge bases apart from each other, each with its own embedder and cut."""

from __future__ import annotations

import contextlib
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter
from fastapi.responses import FileResponse
from starlette.types import Receive, Scope, Send

from ingest.errors import EmbedderError, IndexDamaged, SchemaTooNew
from service import problems
from service.deps import PartsDep
from service.schemas import CollectionReply, CollectionsReply, NewCollection
from service.schemas.wire import CollectionInPath
from service.temporary import Temporary

router = APIRouter(prefix="/collections", tags=["collections"])


class _Once(FileResponse):
    """A file that was made for this request, whole; it goes with it, however it ends."""

    def __init__(self, room: Temporary, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        self._room = room

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it; a part of it would be one of another file, for each is made anew."""
        headers = [(name, value) for name, value in scope["headers"] if name not in (b"range", b"if-range")]
        try:
            await super().__call__({**scope, "headers": headers}, receive, send)
        finally:
            self._room.remove()


@router.get("", summary="Collections", responses={**problems.declared(500, 503)})
def list_collections(parts: PartsDep) -> CollectionsReply:
    """All collections in figures, and what a new one can be made with."""
    found = parts.library.collections()
    return CollectionsReply(
        collections=[CollectionReply.of(c) for c in found],
        default=parts.settings.collection,
        embedders=parts.library.embedders(),
    )


@router.post(
    "", summary="Make a collection", status_code=201, responses={**problems.declared(404, 409, 500, 503, 507)}
)
def create_collection(body: NewCollection, parts: PartsDep) -> CollectionReply:
    """An empty one. Its embedder is fixed now; another one later takes `python -m ingest rebuild`."""
    return CollectionReply.of(parts.library.create(body.name, body.embedder, body.chunking))


@router.get("/{name}", summary="One collection", responses={**problems.declared(404, 500, 503)})
def one_collection(name: CollectionInPath, parts: PartsDep) -> CollectionReply:
    """Its embedder, how it is cut, and how much is in it."""
    return CollectionReply.of(parts.library.collection(name))


@router.get(
    "/{name}/export",
    summary="A collection as one file",
    response_class=FileResponse,
    responses={200: {"content": {"application/zip": {}}}, **problems.declared(404, 500, 503, 507)},
)
def export_collection(name: CollectionInPath, parts: PartsDep) -> FileResponse:
    """Its documents, passages and vectors as they are now, for `python -m ingest import FILE` elsewhere.

    The files that documents were made of are not in it.
    """
    parts.library.collection(name)
    room = Temporary(parts.home, ".export-")
    try:
        parts.library.export(name, room.path / "collection.zip")
    except BaseException:
        room.remove()
        raise
    return _Once(
        room,
        room.path / "collection.zip",
        media_type="application/zip",
        headers={"Content-Disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}.zip"},
    )


@router.delete(
    "/{name}",
    summary="Delete a collection",
    status_code=204,
    responses={**problems.declared(404, 409, 500, 503, 507)},
)
def delete_collection(name: CollectionInPath, parts: PartsDep) -> None:
    """With its documents and the files that were uploaded to it, for good, before this answers.

    Uploads on their way into it are cancelled. Files in your own folders are not touched.
    """
    with contextlib.suppress(IndexDamaged, SchemaTooNew, EmbedderError):  # it can go all the same
        parts.library.collection(name)  # one that is not there has no uploads to cancel
    parts.jobs.withdraw(name)
    parts.library.delete(name)
