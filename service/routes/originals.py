"""`/documents/{id}/file` and `/documents/{id}/pages/{n}.png`: the original and its pages as pictures."""

from __future__ import annotations

from pathlib import PurePosixPath
from urllib.parse import quote

from fastapi import APIRouter
from fastapi.responses import FileResponse

from service import problems
from service.deps import PartsDep
from service.errors import NoOriginal, UnknownName
from service.routes.documents import Collection
from service.routes.sending import OpenedFile

router = APIRouter(tags=["documents"])


@router.get(
    "/documents/{document_id}/file",
    summary="A document's original file",
    response_class=FileResponse,
    responses={200: {"content": {"application/octet-stream": {}}}, **problems.declared(404, 410, 500, 503)},
)
def original_file(document_id: str, parts: PartsDep, collection: Collection = None) -> FileResponse:
    """The very bytes that the document was made of, to be saved: a browser does not open them here."""
    name = collection or parts.settings.collection
    document = parts.library.document(name, document_id)
    file = parts.library.original(name, document.document_id)
    called = PurePosixPath(document.path.replace("\\", "/")).name or "document"
    disposition = f"attachment; filename*=UTF-8''{quote(called, safe='')}"
    gone = NoOriginal(f"the file {document.path} has just been removed")
    headers = {"Content-Disposition": disposition}
    return OpenedFile(file, gone, media_type="application/octet-stream", headers=headers)


@router.get(
    "/documents/{document_id}/pages/{page}.png",
    summary="A page of a document as a picture",
    response_class=FileResponse,
    responses={200: {"content": {"image/png": {}}}, **problems.declared(404, 410, 429, 500, 503)},
)
def page_picture(document_id: str, page: str, parts: PartsDep, collection: Collection = None) -> FileResponse:
    """Of a PDF, drawn by a process of its own and kept; pages count from 1."""
    name = collection or parts.settings.collection
    document = parts.library.document(name, document_id)
    number = int(page) if page.isascii() and page.isdigit() and len(page) < 7 else 0
    if not 1 <= number <= document.pages:
        raise UnknownName(
            f"{document.path} has {document.pages or 'no'} pages; there is no page {page[:12]!r}"
        )
    picture = parts.library.page_picture(name, document.document_id, number)
    gone = NoOriginal(f"the picture of page {number} of {document.path} has just been removed; ask again")
    return OpenedFile(picture, gone, media_type="image/png")
