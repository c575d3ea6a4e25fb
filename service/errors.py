"""What can go wrong in a conversation, and the one table that turns every wing's errors into HTTP.

    ServiceError
    ├── Busy                the queue is full; nothing was done for this request
    ├── RateLimited         one caller sends too many requests
    ├── DeadlineExceeded    the request ran past `deadline_s`; its slot is free again
    ├── NotReady            the index or the models are still being loaded
    ├── WeightsMissing      weights are not installed; names the command that fetches them
    ├── QuestionTooLong     past `max_question_chars`
    ├── UploadTooLarge      past `max_upload_mb` or `max_upload_files`
    ├── UnsupportedMedia    a body that is neither JSON nor a form
    ├── InvalidUpload       no file, no text, or a name that cannot be used
    ├── InvalidRequest      an argument of the command line that does not fit
    ├── UnsupportedField    a field of another API that means something, and that nobody here can do
    ├── InvalidClasses      labels or examples that cannot be told apart, or are too many
    ├── UnknownClassifier   no classifier of that name
    ├── DamagedClassifier   its file cannot be read
    ├── BuiltIn             it came with the program and cannot be deleted
    ├── UnknownJob          no job of that id
    ├── UnknownName         no training run, set, comparison or page of that name
    ├── UnreadablePage      a page that cannot be drawn
    ├── NoOriginal          the file of a document is gone, or has changed
    ├── NameTaken           something has that name already
    ├── RunActive           another run or comparison has the machine
    ├── UnknownSession      no conversation of that name
    ├── ForeignOrigin       a page of another site sent the request
    ├── Unauthorized        the request brought no key, or not the right one
    ├── Forbidden           the key's role or its collections do not reach so far
    ├── InvalidKey          a key that cannot be made like that
    ├── UnknownKey          no key of that name
    ├── RecordsUnavailable  keys and conversations cannot be read or written; `database.RecordsAway`: not now
    ├── BadKeyFile          the file with the key cannot be read or holds no key: refuses to start
    ├── PortInUse           somebody else listens there
    ├── UnsafeBind          an address other than loopback without keys: refuses to start
    └── UpstreamError       another server (Ollama) failed while answering
        ├── UpstreamUnreachable   it does not answer at all; names the address tried
        ├── ModelNotPulled        it answers and lacks the model; names the command that pulls it
        │   └── ModelNotServed    the same of an OpenAI-style server
        └── UpstreamRefused       it finds fault with the request itself

A message says what happened, where, and what to do next. The wire form is `{"error": {"code", "message",
"detail"}}`; under `/v1` and `/api` it is that of OpenAI and of Ollama (`service.dialects`).
"""

from __future__ import annotations

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

logger = logging.getLogger(__name__)


class ErrorBody(BaseModel):
    """What went wrong."""

    code: str
    message: str
    detail: Any = None


class ErrorReply(BaseModel):
    """Every error has this form."""

    error: ErrorBody


class ServiceError(Exception):
    """Root of the tree."""


class Busy(ServiceError):
    """The queue is full."""

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class RateLimited(ServiceError):
    """One caller sends too many requests."""

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class DeadlineExceeded(ServiceError):
    """The request ran past its deadline."""


class NotReady(ServiceError):
    """The index or the models are still being loaded."""

    retry_after_s = 2


class WeightsMissing(ServiceError):
    """Weights are not installed."""


class QuestionTooLong(ServiceError):
    """The question has more characters than the service accepts."""


class UploadTooLarge(ServiceError):
    """More bytes or files than the service accepts."""


class UnsupportedMedia(ServiceError):
    """A body that is neither JSON nor a form."""


class InvalidUpload(ServiceError):
    """An upload that holds nothing, or a name that cannot be used."""


class UnknownJob(ServiceError):
    """No job of that id."""


class UnknownSession(ServiceError):
    """No conversation of that name."""


class UnknownName(ServiceError):
    """No training run, set, comparison or page of that name."""


class UnreadablePage(ServiceError):
    """A page that cannot be drawn."""


class NoOriginal(ServiceError):
    """The file of a document is gone, or has changed."""


class NameTaken(ServiceError):
    """Something has that name already."""


class RunActive(ServiceError):
    """Another run or comparison has the machine."""


class ForeignOrigin(ServiceError):
    """A page of another site sent the request."""


class Unauthorized(ServiceError):
    """The request brought no key, or not the right one."""


class Forbidden(ServiceError):
    """The key does not reach so far."""


class InvalidKey(ServiceError):
    """A key that cannot be made like that."""


class UnknownKey(ServiceError):
    """No key of that name."""


class RecordsUnavailable(ServiceError):
    """The service's own file or database of keys and conversations cannot be used."""


class BadKeyFile(ServiceError):
    """The file with the key cannot be read, or holds no key."""


class InvalidRequest(ServiceError):
    """An argument that does not fit."""


class UnsupportedField(ServiceError):
    """A field that means something, and that nobody here can do."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.detail = [{"where": field, "message": message}]


class QuestionsUnreadable(ServiceError):
    """A file of questions that cannot be read; names file and line."""


class InvalidClasses(ServiceError):
    """Labels or examples that cannot be told apart, or too many of them."""


class UnknownClassifier(ServiceError):
    """No classifier of that name."""


class DamagedClassifier(ServiceError):
    """A classifier's file cannot be read."""


class BuiltIn(ServiceError):
    """It came with the program and cannot be deleted."""


class PortInUse(ServiceError):
    """Somebody else listens on the port."""


class UnsafeBind(ServiceError):
    """Binding beyond loopback without keys."""


class UpstreamError(ServiceError):
    """Another server failed while answering."""


class UpstreamUnreachable(UpstreamError):
    """Another server does not answer."""


class ModelNotPulled(UpstreamError):
    """The upstream lacks the model."""


class ModelNotServed(ModelNotPulled):
    """An OpenAI-style server lacks the model."""


class UpstreamRefused(UpstreamError):
    """The upstream finds fault with the request itself."""


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


def problem(error: Exception, home: Path | None = None) -> tuple[int, dict[str, Any], dict[str, str]]:
    """Status, wire body and headers for an error.

    What is not in the table is a 500 that tells nothing of the inside.
    `home` is replaced by its name in messages, so that a reply never shows where things lie on this machine.
    """
    headers: dict[str, str] = {}
    detail: Any = None
    row = next((TABLE[c] for c in type(error).__mro__ if c in TABLE), None)
    if isinstance(error, RequestValidationError):
        status, code = 422, "invalid_request"
        detail = [{"where": ".".join(map(str, e["loc"])), "message": e["msg"]} for e in error.errors()[:20]]
        message = "; ".join(f"{d['where']}: {d['message']}" for d in detail[:3])
    elif isinstance(error, HTTPException):
        status, code = error.status_code, HTTPStatus(error.status_code).phrase.lower().replace(" ", "_")
        message = str(error.detail)
        headers.update(error.headers or {})
    elif row is not None:
        (status, code), message, detail = row, str(error), getattr(error, "detail", None)
        if retry_after_s := getattr(error, "retry_after_s", None):
            headers["Retry-After"] = str(retry_after_s)
    else:
        status, code, message = 500, "internal", "An error inside the service; its log has the details."
    if home is not None:
        message = message.replace(str(home), "LOREBASE_HOME")
    return status, {"error": {"code": code, "message": message, "detail": detail}}, headers


def error_reply(body: dict[str, Any]) -> ErrorReply:
    """A problem's wire body in its declared form."""
    return ErrorReply.model_validate(body)


def error_response(error: Exception, home: Path | None = None, path: str = "") -> JSONResponse:
    """The JSON reply for an error, in the form that clients of that path read."""
    status, body, headers = problem(error, home)
    if status >= 500 and body["error"]["code"] == "internal":
        logger.error("unexpected error", exc_info=error)
    status, body = dialects.shaped(dialects.spoken_at(path), status, body)
    return JSONResponse(body, status, headers)


def register(app: FastAPI, home: Path, body_limit: str) -> None:
    """Give `app` one handler for everything; `body_limit` says in words how large bodies may be."""

    async def handle(request: Request, error: Exception) -> JSONResponse:
        if isinstance(error, HTTPException) and error.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            error = UploadTooLarge(f"the request's body is too large: {body_limit}")
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
        for s in (400, 401, 403, 413, 422, 429, 503, *statuses)
    }
