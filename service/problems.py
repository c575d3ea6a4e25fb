"""The one table that turns every wing's errors into HTTP, and the form that they take on the wire.

The wire form is `{"error": {"code", "message", "detail"}}`; under `/v1` and `/api` it is that of OpenAI and
of Ollama (`service.dialects`).
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from ingest import errors as ingest_errors
from ingest.collections import InvalidName
from ingest.fetch import FetchError
from ingest.fields import InvalidField
from ingest.filters import InvalidFilter
from ingest.pipeline import InvalidPath
from ingest.settings import SettingsError
from ingest.transfer import CollectionExists
from model import errors as model_errors
from service import dialects
from service.errors import (
    BuiltIn,
    Busy,
    DamagedClassifier,
    DeadlineExceeded,
    Forbidden,
    ForeignOrigin,
    InvalidClasses,
    InvalidKey,
    InvalidRequest,
    InvalidUpload,
    ModelNotPulled,
    ModelNotServed,
    NameTaken,
    NoOriginal,
    NotReady,
    QuestionsUnreadable,
    QuestionTooLong,
    RateLimited,
    RecordsUnavailable,
    RunActive,
    ServiceError,
    Unauthorized,
    UnknownClassifier,
    UnknownJob,
    UnknownKey,
    UnknownName,
    UnknownSession,
    UnreadablePage,
    UnsupportedField,
    UnsupportedMedia,
    UploadTooLarge,
    UpstreamError,
    UpstreamRefused,
    UpstreamUnreachable,
    WeightsMissing,
)

logger = logging.getLogger(__name__)


class ErrorBody(BaseModel):
    """What went wrong."""

    code: str
    message: str
    detail: Any = None


class ErrorReply(BaseModel):
    """Every error has this form."""

    error: ErrorBody


#: Exception class -> (status, code). Found along the class's ancestors, so a new error inherits its parent's
#: row.
TABLE: dict[type[Exception], tuple[int, str]] = {
    Busy: (429, "busy"),
    RateLimited: (429, "rate_limited"),
    DeadlineExceeded: (504, "deadline_exceeded"),
    NotReady: (503, "not_ready"),
    WeightsMissing: (503, "weights_missing"),
    QuestionTooLong: (422, "question_too_long"),
    UploadTooLarge: (413, "too_large"),
    UnsupportedMedia: (415, "unsupported_media_type"),
    InvalidUpload: (422, "invalid_upload"),
    InvalidRequest: (422, "invalid_request"),
    UnsupportedField: (422, "unsupported_parameter"),
    QuestionsUnreadable: (422, "invalid_questions"),
    InvalidClasses: (422, "invalid_classes"),
    UnknownClassifier: (404, "unknown_classifier"),
    DamagedClassifier: (503, "damaged_classifier"),
    BuiltIn: (409, "built_in"),
    UnknownJob: (404, "unknown_job"),
    UnknownName: (404, "unknown_name"),
    UnreadablePage: (422, "unreadable_page"),
    NoOriginal: (410, "original_gone"),
    NameTaken: (409, "name_taken"),
    RunActive: (409, "run_active"),
    UnknownSession: (404, "unknown_session"),
    ForeignOrigin: (403, "foreign_origin"),
    Unauthorized: (401, "unauthorized"),
    Forbidden: (403, "forbidden"),
    InvalidKey: (422, "invalid_key"),
    UnknownKey: (404, "unknown_key"),
    RecordsUnavailable: (503, "records_unavailable"),
    UpstreamUnreachable: (502, "upstream_unreachable"),
    ModelNotPulled: (404, "model_not_pulled"),
    ModelNotServed: (404, "model_not_served"),
    UpstreamRefused: (400, "upstream_refused"),
    UpstreamError: (502, "upstream_error"),
    ServiceError: (500, "service_error"),
    ingest_errors.UnsupportedFormat: (415, "unsupported_format"),
    ingest_errors.ParseError: (422, "unreadable_document"),
    ingest_errors.EmptyDocument: (422, "empty_document"),
    ingest_errors.EmbedderError: (503, "embedder_error"),
    ingest_errors.UnknownCollection: (404, "unknown_collection"),
    ingest_errors.UnknownDocument: (404, "unknown_document"),
    ingest_errors.IndexMismatch: (409, "index_mismatch"),
    ingest_errors.IndexDamaged: (503, "index_damaged"),
    ingest_errors.SchemaTooNew: (503, "schema_too_new"),
    ingest_errors.CollectionLocked: (409, "collection_locked"),
    ingest_errors.StorageFull: (507, "storage_full"),
    ingest_errors.StoreUnavailable: (503, "store_unavailable"),
    InvalidPath: (422, "invalid_path"),
    FetchError: (422, "page_not_fetched"),
    InvalidFilter: (422, "invalid_filter"),
    InvalidField: (422, "invalid_field"),
    InvalidName: (422, "invalid_collection_name"),
    CollectionExists: (409, "collection_exists"),
    SettingsError: (422, "invalid_setting"),
    ingest_errors.IngestError: (500, "ingest_error"),
    model_errors.UnknownModel: (404, "unknown_model"),
    model_errors.AdapterError: (422, "adapter_error"),
    model_errors.DataError: (422, "invalid_dataset"),
    model_errors.TrainingError: (422, "training_error"),
    model_errors.ExportError: (422, "export_error"),
    model_errors.ContextOverflow: (422, "context_overflow"),
    model_errors.InvalidSampling: (422, "invalid_sampling"),
    model_errors.UnsupportedModel: (422, "unsupported_model"),
    model_errors.TokenizerError: (503, "tokenizer_error"),
    model_errors.DownloadError: (502, "download_error"),
    model_errors.HashMismatch: (502, "hash_mismatch"),
    model_errors.CheckpointError: (503, "checkpoint_error"),
    model_errors.Cancelled: (503, "cancelled"),
    model_errors.ModelError: (500, "model_error"),
}


#: What the disk or its permissions refuse; whoever writes a file may meet it.
_STORAGE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}


def problem(error: Exception, home: Path | None = None) -> tuple[int, dict[str, Any], dict[str, str]]:
    """Status, wire body and headers for an error.

    What is not in the table is a 500 that tells nothing of the inside, and is logged.
    `home` is replaced by its name in messages, so that a reply never shows where things lie on this machine.
    """
    headers: dict[str, str] = {}
    detail: Any = None
    row = next((TABLE[c] for c in type(error).__mro__ if c in TABLE), None)
    if isinstance(error, RequestValidationError):
        status, code = 422, "invalid_request"
        # Of a place, what a client has sent; pydantic's names of its own checks have brackets.
        told = [
            (".".join(str(p) for p in e["loc"] if not set("[(") & {*str(p)}), _said(e))
            for e in error.errors()[:20]
        ]
        detail = [{"where": _text(where), "message": _text(said)} for where, said in told]
        message = "; ".join(f"{d['where']}: {d['message']}" for d in detail[:3])
    elif isinstance(error, HTTPException):
        status, code = error.status_code, HTTPStatus(error.status_code).phrase.lower().replace(" ", "_")
        message = str(error.detail)
        headers.update(error.headers or {})
    elif row is not None:
        (status, code), message, detail = row, str(error), getattr(error, "detail", None)
        if retry_after_s := getattr(error, "retry_after_s", None):
            headers["Retry-After"] = str(retry_after_s)
    elif isinstance(error, OSError) and error.errno in _STORAGE:
        status, code = 507, "storage_full"
        message = (
            f"the data folder cannot be written: {error.strerror}. Check the space on its disk and its "
            "permissions."
        )
        logger.error("the disk refused", exc_info=error)
    else:
        status, code, message = 500, "internal", "An error inside the service; its log has the details."
        if not isinstance(error, ClientDisconnect):  # nobody is there to be told
            logger.error("unexpected error", exc_info=error)
    message = _text(message)
    if home is not None:
        message = message.replace(str(home), "LOREBASE_HOME")
    return status, {"error": {"code": code, "message": message, "detail": detail}}, headers


def _said(error: Mapping[str, Any]) -> str:
    """One fault of a request; where pydantic speaks of its own inside, in words about what was sent."""
    about = error.get("ctx", {})
    if error["type"] == "extra_forbidden":
        return "there is no such field"
    if error["type"] == "json_invalid":
        return f"this is no JSON: {about.get('error', 'it cannot be read')}"
    if error["type"] == "string_too_short" and about.get("min_length") == 1:
        return "is empty"
    return str(error["msg"])


def _text(said: str) -> str:
    """Half a surrogate pair, which JSON can spell and a reply cannot carry, as a question mark."""
    return said.encode("utf-8", "replace").decode()


def error_reply(body: dict[str, Any]) -> ErrorReply:
    """A problem's wire body in its declared form."""
    return ErrorReply.model_validate(body)


def error_response(error: Exception, home: Path | None = None, path: str = "") -> JSONResponse:
    """The JSON reply for an error, in the form that clients of that path read."""
    status, body, headers = problem(error, home)
    status, body = dialects.shaped(dialects.spoken_at(path), status, body)
    return JSONResponse(body, status, headers)


def register(app: FastAPI, home: Path, body_limit: str) -> None:
    """Give `app` one handler for everything; `body_limit` says in words how large bodies may be."""

    async def handle(request: Request, error: Exception) -> JSONResponse:
        if isinstance(error, HTTPException) and error.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            error = UploadTooLarge(f"the request's body is too large: {body_limit}")
        if isinstance(error, RequestValidationError) and isinstance(error.body, bytes):  # it was not read
            error = UnsupportedMedia("send the body as JSON, with the header Content-Type: application/json")
        return error_response(error, home, request.url.path)

    async def nobody(_: Request, __: Exception) -> Response:
        return Response(status_code=499)  # the client has gone: nothing to log, nobody to tell

    app.add_exception_handler(ClientDisconnect, nobody)
    roots: tuple[type[Exception], ...] = (
        ServiceError,
        ingest_errors.IngestError,
        model_errors.ModelError,
        RequestValidationError,
        HTTPException,
        Exception,
    )
    for root in roots:
        app.add_exception_handler(root, handle)


def declared(*statuses: int) -> Mapping[int | str, dict[str, Any]]:
    """What a route declares in OpenAPI: the statuses it may answer beside success, all in the same form."""
    return {
        s: {"model": ErrorReply, "description": HTTPStatus(s).phrase}
        for s in (400, 401, 403, 413, 415, 422, 429, 503, *statuses)
    }
