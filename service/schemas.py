"""The wire: what requests may hold and what replies do hold. Unknown fields are refused, numbers are bounded.

These shapes are kept apart from the inner ones, so that what other programs hold on to changes only on
purpose.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from ingest.types import Chunk, FileReport, Hit, SearchMode, StoredDocument
from model.config import Sampling
from service.citations import Citation
from service.errors import ErrorBody
from service.events import AskMode, Final, Refusal
from service.jobs import Job
from service.library import CollectionInfo


def _encodable(text: str) -> str:
    """JSON can spell half a surrogate pair, which no file, index or tokenizer can hold."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError("holds half of a surrogate pair, which is not text") from error
    return text


Text = Annotated[str, AfterValidator(_encodable)]
Words = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=100_000),
    AfterValidator(_encodable),
]
CollectionName = Annotated[str, StringConstraints(min_length=1, max_length=64), AfterValidator(_encodable)]


class Request(BaseModel):
    """Base of what comes in."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Reply(BaseModel):
    """Base of what goes out."""

    model_config = ConfigDict(frozen=True)


class AskRequest(Request):
    """`POST /ask`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"question": "How do I ingest a folder of documents?"},
                {"question": "如何导入文档？", "mode": "quote", "k": 3, "stream": True},
            ]
        }
    )

    question: Words
    collection: CollectionName | None = Field(
        None, description="the collection to ask; the service's default if not given"
    )
    mode: AskMode = Field(
        "rag", description="rag: from the documents; closed_book: the model alone; quote: their words"
    )
    model: Annotated[str, StringConstraints(min_length=1, max_length=200)] | None = Field(
        None, description="the loaded model, or ollama/NAME"
    )
    k: int | None = Field(None, ge=1, le=50, description="number of passages")
    search_mode: SearchMode | None = None
    on_no_answer: Literal["refuse", "answer"] = "refuse"
    stream: bool = Field(False, description="server-sent events instead of one JSON document")
    max_tokens: int | None = Field(None, ge=1, le=4096)
    temperature: float = Field(0.0, ge=0, le=100)
    top_k: int = Field(0, ge=0, le=1_000_000)
    top_p: float = Field(1.0, gt=0, le=1)
    min_p: float = Field(0.0, ge=0, le=1)
    repetition_penalty: float = Field(1.0, gt=0, le=100)
    stop: list[Annotated[str, StringConstraints(min_length=1, max_length=200)]] = Field([], max_length=16)
    seed: int | None = Field(None, ge=0, lt=2**63)

    def sampling(self, default_max_tokens: int) -> Sampling:
        """How to decode."""
        return Sampling(
            max_tokens=self.max_tokens or default_max_tokens,
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
            stop=tuple(self.stop),
            seed=self.seed,
        )


class Passage(Reply):
    """A passage that a search found. Offsets are code points into the document's text."""

    chunk_id: int
    document_id: str
    path: str
    title: str
    heading_path: list[str]
    page_first: int | None
    page_last: int | None
    char_start: int
    char_end: int
    text: str
    score: float
    dense_score: float | None
    keyword_score: float | None

    @classmethod
    def of(cls, hit: Hit) -> Passage:
        """From a hit."""
        return cls.model_validate({name: getattr(hit, name) for name in cls.model_fields})


class CitationReply(Reply):
    """A stretch of a stored document: its text, cut at these offsets (code points), equals `text`."""

    marker: int
    document_id: str
    path: str
    title: str
    page_first: int | None
    page_last: int | None
    char_start: int
    char_end: int
    text: str
    quote: str = Field(description="`text` on one line")
    score: float
    support: float = Field(description="share of the sentence's content that stands in `text`, 0 to 1")

    @classmethod
    def of(cls, citation: Citation) -> CitationReply:
        """From a citation."""
        return cls.model_validate({name: getattr(citation, name) for name in cls.model_fields})


class StatementReply(Reply):
    """One sentence of the answer."""

    text: str
    markers: list[int]
    supported: bool


class UsageReply(Reply):
    """Tokens, counted by the generator's tokenizer."""

    prompt_tokens: int
    completion_tokens: int
    context_tokens: int
    dropped_chunks: int = Field(description="retrieved passages that did not fit into the prompt")


class TimingsReply(Reply):
    """Milliseconds."""

    search_ms: float
    first_token_ms: float | None
    total_ms: float


class AskReply(Reply):
    """The reply to `POST /ask`, and the data of the event `final`."""

    id: str
    mode: AskMode
    answer: str
    answer_html: str = Field(description="sanitised; markers link to #citation-N")
    answered: bool
    refusal_reason: Refusal | None
    llm_generated: bool = Field(description="false where the words are the documents' own")
    reasoning: str
    citations: list[CitationReply]
    statements: list[StatementReply]
    sources: list[Passage]
    confidence: float | None
    model: str
    index_generation: int | None
    usage: UsageReply
    timings: TimingsReply

    @classmethod
    def of(cls, final: Final) -> AskReply:
        """From the conductor's last event."""
        return cls(
            id=final.id,
            mode=final.mode,
            answer=final.answer,
            answer_html=final.answer_html,
            answered=final.answered,
            refusal_reason=final.refusal_reason,
            llm_generated=final.llm_generated,
            reasoning=final.reasoning,
            citations=[CitationReply.of(c) for c in final.citations],
            statements=[
                StatementReply(text=s.text.strip(), markers=list(s.markers), supported=s.supported)
                for s in final.statements
            ],
            sources=[Passage.of(h) for h in final.sources],
            confidence=final.confidence,
            model=final.model,
            index_generation=final.index_generation,
            usage=UsageReply.model_validate(final.usage, from_attributes=True),
            timings=TimingsReply.model_validate(final.timings, from_attributes=True),
        )


class SearchRequest(Request):
    """`POST /search`."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"query": "unchanged files", "k": 3}]})

    query: Words
    collection: CollectionName | None = None
    k: int | None = Field(None, ge=1, le=50)
    search_mode: SearchMode | None = None


class SearchReply(Reply):
    """Passages, best first, all from one generation of the index."""

    hits: list[Passage]
    index_generation: int
    search_ms: float


class TextUpload(Request):
    """`POST /documents` with JSON: a text instead of files."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"path": "notes/today.md", "text": "# Today\n\nThe server moved to Lyon."}]
        }
    )

    text: Annotated[str, StringConstraints(min_length=1), AfterValidator(_encodable)]
    path: Words = Field(
        description="what the document will be known by; a suffix such as .md decides how it is read"
    )
    collection: CollectionName | None = None


class DocumentReply(Reply):
    """A document as the index knows it."""

    document_id: str
    path: str
    title: str
    content_hash: str
    characters: int
    chunks: int
    pages: int
    metadata: dict[str, str]
    warnings: list[str]
    ingested_at: str

    @classmethod
    def of(cls, document: StoredDocument) -> DocumentReply:
        """From the store's form."""
        return cls.model_validate({name: getattr(document, name) for name in cls.model_fields})


class DocumentsReply(Reply):
    """The documents of a collection, by path."""

    documents: list[DocumentReply]
    collection: str
    total: int


class TextReply(Reply):
    """A document's text, whole, or a window around a span: then `before + passage + after` is that window.

    The window is cut by the service, because offsets are code points and JavaScript slices UTF-16 units.
    """

    document_id: str
    path: str
    title: str
    characters: int
    text: str | None = None
    char_start: int | None = None
    char_end: int | None = None
    before: str | None = None
    passage: str | None = None
    after: str | None = None


class ChunkReply(Reply):
    """One passage of a document."""

    position: int
    text: str
    char_start: int
    char_end: int
    page_first: int | None
    page_last: int | None
    heading_path: list[str]
    tokens: int

    @classmethod
    def of(cls, chunk: Chunk) -> ChunkReply:
        """From the index's form."""
        return cls.model_validate({name: getattr(chunk, name) for name in cls.model_fields})


class ChunksReply(Reply):
    """The passages of a document, in order."""

    document_id: str
    chunks: list[ChunkReply]


class DeletedReply(Reply):
    """What was removed; no later search finds it."""

    document_id: str
    path: str
    deleted: Literal[True] = True


class CollectionReply(Reply):
    """One collection in figures."""

    name: str
    documents: int
    chunks: int
    characters: int
    generation: int
    embedder: str | None
    bytes_on_disk: int

    @classmethod
    def of(cls, info: CollectionInfo) -> CollectionReply:
        """From the library's form."""
        return cls.model_validate(info, from_attributes=True)


class CollectionsReply(Reply):
    """All collections, and which one is asked by default."""

    collections: list[CollectionReply]
    default: str


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
    status: Literal["queued", "running", "done", "failed"]
    collection: str
    total: int = Field(description="files to ingest")
    completed: int
    files: list[FileReply] = Field(description="what became of each, as they finish")
    error: ErrorBody | None
    created_at: str
    finished_at: str | None

    @classmethod
    def of(cls, job: Job) -> JobReply:
        """From the board's form."""
        return cls(
            id=job.id,
            status=job.status,
            collection=job.collection,
            total=job.total,
            completed=len(job.files),
            files=[FileReply.of(f) for f in job.files],
            error=ErrorBody.model_validate(job.error) if job.error else None,
            created_at=job.created_at,
            finished_at=job.finished_at,
        )


class JobsReply(Reply):
    """Jobs, newest first."""

    jobs: list[JobReply]


class ModelReply(Reply):
    """A generator that can be asked."""

    name: str
    kind: Literal["own", "ollama"]
    loaded: bool
    default: bool
    context_tokens: int | None = None
    capabilities: list[str] = []
    detail: str = ""


class UpstreamReply(Reply):
    """Another server that answers for models named `NAME/...`."""

    name: str
    address: str
    reachable: bool
    message: str = ""


class ModelsReply(Reply):
    """Generators, and the upstreams that were asked for theirs."""

    models: list[ModelReply]
    upstreams: list[UpstreamReply]
    default: str


class HealthReply(Reply):
    """The process answers."""

    status: Literal["live"] = "live"
    version: str


class ReadyReply(Reply):
    """Whether index and models are loaded."""

    status: Literal["ready", "loading", "failed"]
    parts: dict[str, str] = Field(description="each part: ready, loading, or what is wrong with it")
