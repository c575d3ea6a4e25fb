"""Who may do what: one table of every route and the role it needs.

`service.auth.Gate` finds out who calls, before anything is read. Once the router has chosen a route, `allow`
looks into the table under that very route, so that no spelling of a path can be judged by another row than
the one that serves it. A route that has no row is for admins.

    reader   asks, searches, reads documents
    editor   also changes documents and classifiers
    admin    also models, training, comparisons, collections

A key may be held to some collections. For such a caller every other collection does not exist: `service.deps`
hands its routes a library without them, and rows that say `whole` are not for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from starlette.requests import Request

from service.errors import Forbidden
from service.keys import ROLES, Role

#: Where the gate leaves who calls.
SCOPE_KEY = "lorebase.access"


@dataclass(frozen=True, slots=True)
class Access:
    """Who calls."""

    id: str  #: of the key; whatever a caller owns is kept under it
    name: str
    role: Role
    collections: frozenset[str] | None = None  #: None: all

    def may(self, role: Role) -> bool:
        """Whether the caller has at least that role."""
        return ROLES.index(self.role) >= ROLES.index(role)

    def sees(self, collection: str) -> bool:
        """Whether that collection exists for the caller."""
        return self.collections is None or collection in self.collections


#: Everybody, where no key is asked for: whoever reaches a loopback address without keys is its owner.
LOCAL = Access("", "local", "admin")


@dataclass(frozen=True, slots=True)
class Need:
    """What a route needs of its caller."""

    role: Role | Literal["open"]
    whole: bool = False  #: not for keys that are held to some collections


OPEN = Need("open")
READER, EDITOR, ADMIN = Need("reader"), Need("editor"), Need("admin")
#: Tells of, or changes, what belongs to no collection.
WHOLE_READER, WHOLE_EDITOR = Need("reader", whole=True), Need("editor", whole=True)

NEEDS: dict[tuple[str, str], Need] = {
    ("GET", "/"): OPEN,
    ("HEAD", "/"): OPEN,
    ("GET", "/healthz"): OPEN,
    ("HEAD", "/healthz"): OPEN,
    ("GET", "/readyz"): OPEN,
    ("HEAD", "/readyz"): OPEN,
    ("GET", "/metrics"): WHOLE_READER,
    ("GET", "/whoami"): READER,
    ("POST", "/ask"): READER,
    ("POST", "/search"): READER,
    ("POST", "/classify"): READER,
    ("GET", "/classifiers"): READER,
    ("GET", "/classifiers/{name}"): READER,
    ("PUT", "/classifiers/{name}"): WHOLE_EDITOR,
    ("DELETE", "/classifiers/{name}"): WHOLE_EDITOR,
    ("GET", "/collections"): READER,
    ("POST", "/collections"): ADMIN,
    ("GET", "/collections/{name}"): READER,
    ("GET", "/collections/{name}/export"): EDITOR,
    ("DELETE", "/collections/{name}"): ADMIN,
    ("GET", "/documents"): READER,
    ("POST", "/documents"): EDITOR,
    ("POST", "/documents/sync"): EDITOR,
    ("GET", "/documents/{document_id}"): READER,
    ("PATCH", "/documents/{document_id}"): EDITOR,
    ("DELETE", "/documents/{document_id}"): EDITOR,
    ("GET", "/documents/{document_id}/text"): READER,
    ("GET", "/documents/{document_id}/chunks"): READER,
    ("GET", "/documents/{document_id}/file"): READER,
    ("GET", "/documents/{document_id}/pages/{page}.png"): READER,
    ("GET", "/jobs"): READER,
    ("GET", "/jobs/{job_id}"): READER,
    ("GET", "/jobs/{job_id}/events"): READER,
    ("DELETE", "/jobs/{job_id}"): EDITOR,
    ("GET", "/sessions"): READER,
    ("GET", "/sessions/{session_id}"): READER,
    ("DELETE", "/sessions/{session_id}"): READER,
    ("GET", "/models"): READER,
    ("POST", "/models/load"): ADMIN,
    ("POST", "/models/merge"): ADMIN,
    ("POST", "/models/export"): ADMIN,
    ("GET", "/datasets"): WHOLE_READER,
    ("POST", "/datasets"): ADMIN,
    ("GET", "/datasets/{name}"): WHOLE_READER,
    ("DELETE", "/datasets/{name}"): ADMIN,
    ("GET", "/runs"): WHOLE_READER,
    ("POST", "/runs"): ADMIN,
    ("GET", "/runs/{name}"): WHOLE_READER,
    ("DELETE", "/runs/{name}"): ADMIN,
    ("GET", "/runs/{name}/metrics"): WHOLE_READER,
    ("GET", "/evaluations"): WHOLE_READER,
    ("POST", "/evaluations"): ADMIN,
    ("GET", "/evaluations/{name}"): WHOLE_READER,
    ("DELETE", "/evaluations/{name}"): ADMIN,
    ("GET", "/evaluations/{name}/report.html"): WHOLE_READER,
    ("POST", "/score"): READER,
    ("POST", "/embed"): READER,
    ("POST", "/v1/chat/completions"): READER,
    ("POST", "/v1/completions"): READER,
    ("POST", "/v1/embeddings"): READER,
    ("GET", "/v1/models"): READER,
    ("GET", "/v1/models/{model:path}"): READER,
    ("POST", "/api/chat"): READER,
    ("POST", "/api/generate"): READER,
    ("POST", "/api/embed"): READER,
    ("POST", "/api/embeddings"): READER,
    ("GET", "/api/tags"): READER,
    ("GET", "/api/ps"): READER,
    ("POST", "/api/show"): READER,
    ("GET", "/api/version"): READER,
}


def access(request: Request) -> Access:
    """Who calls, as the gate found out."""
    found: Access = request.scope[SCOPE_KEY]
    return found


async def allow(request: Request) -> None:
    """A dependency of every route: pass if its row in the table lets the caller in.

    Raises:
        Forbidden: the caller's role is too small, or it is held to some collections and the route is not.
    """
    need = NEEDS.get((request.method, request.scope["route"].path), ADMIN)
    if need.role == "open":
        return
    caller = access(request)
    if not caller.may(need.role):
        raise Forbidden(f"this needs a key with the role {need.role}; this one's role is {caller.role}")
    if need.whole and caller.collections is not None:
        raise Forbidden("this is not for keys that are held to some collections")
