"""How the clients of OpenAI and of Ollama read an error; which of them speaks shows in the path.

Their own servers answer 400 where a request cannot be read, so that is the status here, too. Everything else
keeps the status of `service.problems`.

    /v1/...    {"error": {"message", "type", "param", "code"}}
    /api/...   {"error": "text"}
    elsewhere  {"error": {"code", "message", "detail"}}
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Literal

from pydantic import BaseModel

Dialect = Literal["own", "openai", "ollama"]

#: What OpenAI calls some of our codes; programs branch on these.
_OPENAI_CODES = {"unknown_model": "model_not_found", "context_overflow": "context_length_exceeded"}
_OPENAI_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


class OpenAIErrorBody(BaseModel):
    """What went wrong, in OpenAI's words."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class OpenAIErrorReply(BaseModel):
    """Every error under `/v1` has this form."""

    error: OpenAIErrorBody


class OllamaErrorReply(BaseModel):
    """Every error under `/api` has this form."""

    error: str


def spoken_at(path: str) -> Dialect:
    """Whose clients call this path."""
    if path == "/v1" or path.startswith("/v1/"):
        return "openai"
    return "ollama" if path == "/api" or path.startswith("/api/") else "own"


def shaped(dialect: Dialect, status: int, body: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
    """An error's status and wire body, given both in our own form."""
    if dialect == "own":
        return status, dict(body)
    error = body["error"]
    status = HTTPStatus.BAD_REQUEST if status == HTTPStatus.UNPROCESSABLE_ENTITY else status
    if dialect == "ollama":
        return status, {"error": error["message"]}
    kind = _OPENAI_TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    told = OpenAIErrorBody(
        message=error["message"],
        type=kind,
        param=_param(error.get("detail")),
        code=_OPENAI_CODES.get(error["code"], error["code"]),
    )
    return status, {"error": told.model_dump()}


def declared(dialect: Literal["openai", "ollama"], *statuses: int) -> Mapping[int | str, dict[str, Any]]:
    """What a route of that family declares in OpenAPI beside success; an unreadable body is a 400."""
    model = OpenAIErrorReply if dialect == "openai" else OllamaErrorReply
    named: dict[int | str, dict[str, Any]] = {
        s: {"model": model, "description": HTTPStatus(s).phrase}
        for s in (400, 401, 403, 413, 415, 429, 500, 503, *statuses)
    }
    # Without it FastAPI declares a 422 in a form of its own.
    return named | {"default": {"model": model, "description": "Any other error"}}


def _param(detail: Any) -> str | None:
    """The field that an error is about."""
    if isinstance(detail, list) and detail and isinstance(detail[0], dict):
        where = str(detail[0].get("where", "")).removeprefix("body.")
        return None if where in ("", "body") else where
    return None
