"""Collections, jobs, health."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field, StringConstraints

from ingest.types import FileReport
from service.access import Access
from service.jobs import Job, Status
from service.keys import Role
from service.library import CollectionInfo
from service.problems import ErrorBody
from service.schemas.wire import CollectionName, Reply, Request, encodable


class CollectionReply(Reply):
    """One collection in figures."""

    name: str
    documents: int
    chunks: int
    characters: int
    generation: int
    embedder: str | None
    bytes_on_disk: int
    chunking: str = Field(description="how its documents are cut: TOKENS-OVERLAP")
    problem: str | None = Field(
        default=None, description="why it cannot be used, and what to do; its figures are 0 then"
    )

    @classmethod
    def of(cls, info: CollectionInfo) -> CollectionReply:
        """From the library's form."""
        return cls.model_validate(info, from_attributes=True)


class CollectionsReply(Reply):
    """All collections, and which one is asked by default."""

    collections: list[CollectionReply]
    default: str
    embedders: list[str] = Field(description="what a new one can be made with, the usual one first")


class NewCollection(Request):
    """`POST /collections`. Every collection reads documents of any language."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"name": "contracts", "embedder": "multilingual-e5-small", "chunking": "224-32"}]
        }
    )

    name: CollectionName = Field(description="letters and digits of any script, inner spaces, . _ and -")
    embedder: (
        Annotated[str, StringConstraints(min_length=1, max_length=200), AfterValidator(encodable)] | None
    ) = Field(
        None,
        description="one of the `embedders` of `GET /collections`, onnx/ before such a name, ollama/NAME or "
        "openai/NAME; by default the usual one",
    )
    chunking: Annotated[str, StringConstraints(min_length=1, max_length=32)] | None = Field(
        None,
        description="longest passage and overlap in the embedder's tokens, as TOKENS-OVERLAP; TOKENS alone "
        "overlaps by a seventh; by default as the settings say",
    )


class FileReply(Reply):
    """What became of one uploaded file."""

    path: str
    status: str
    reason: str
    chunks: int
    pages: int

    @classmethod
    def of(cls, report: FileReport) -> FileReply:
        """From the ingest's report."""
        return cls.model_validate({name: getattr(report, name) for name in cls.model_fields})


class JobReply(Reply):
    """An upload on its way into the index."""

    id: str
    kind: Literal["upload"] = "upload"
    status: Status
    collection: str
    total: int = Field(description="files to ingest")
    completed: int
    files: list[FileReply] = Field(description="what became of each, as they finish")
    error: ErrorBody | None
    created_at: str
    finished_at: str | None

    @classmethod
    def of(cls, job: Job) -> JobReply:
        """From the board's form, at one moment, though its thread goes on meanwhile."""
        finished_at = job.finished_at  # first: once it is set, nothing changes any more
        files = [FileReply.of(f) for f in job.files]
        begun = job.status != "queued"
        return cls(
            id=job.id,
            status="running" if begun and finished_at is None else job.status,
            collection=job.collection,
            total=job.total,
            completed=len(files),
            files=files,
            error=ErrorBody.model_validate(job.error) if job.error else None,
            created_at=job.created_at,
            finished_at=finished_at,
        )


class JobsReply(Reply):
    """Jobs, newest first."""

    jobs: list[JobReply]


class HealthReply(Reply):
    """The process answers."""

    status: Literal["live"] = "live"
    version: str


class WhoReply(Reply):
    """Who calls."""

    name: str = Field(description="of the key; `local` where no key is asked for")
    role: Role
    collections: list[str] | None = Field(description="those that the key is held to; null: all")
    key: bool = Field(description="whether a key was brought")

    @classmethod
    def of(cls, caller: Access) -> WhoReply:
        """From the gate's form."""
        only = None if caller.collections is None else sorted(caller.collections)
        return cls(name=caller.name, role=caller.role, collections=only, key=bool(caller.id))


class ReadyReply(Reply):
    """Whether index and models are loaded."""

    status: Literal["ready", "loading", "failed"]
    parts: dict[str, str] = Field(
        description="each part: ready, loading, or what is wrong with it (to keys of some collections "
        "only: failed); index is the embedder with the default collection"
    )
    notes: list[str] = Field(
        [],
        description="what works otherwise than expected: calibrators, collections that could not be opened",
    )
