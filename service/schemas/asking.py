"""Questions, answers, citations and searches."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, StringConstraints, model_validator

from ingest.types import Hit, SearchMode
from ingest.widening import Surroundings
from model.config import MOST_BEAMS, Sampling
from service.citations import Citation
from service.events import AskMode, Context, Final, QuotedBy, ReadingWay, Refusal
from service.followup import Said
from service.schemas.filtering import Filters
from service.schemas.sessions import SessionName
from service.schemas.wire import CollectionName, Reply, Request, Words

#: Of a conversation, at most so many turns, and characters in all of them together.
MOST_MESSAGES, MOST_MESSAGE_CHARS = 100, 200_000


class Message(Request):
    """One turn of a conversation. System turns are refused: what the model is told is not the asker's."""

    role: Literal["user", "assistant"]
    content: Words


class AskRequest(Request):
    """`POST /ask`: a `question`, or `messages` whose last turn is the question."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"question": "How do I ingest a folder of documents?"},
                {"question": "如何导入文档？", "mode": "quote", "k": 3, "stream": True},
                {
                    "messages": [
                        {"role": "user", "content": "What does make demo do?"},
                        {"role": "assistant", "content": "The same as make run without serving."},
                        {"role": "user", "content": "And make clean?"},
                    ]
                },
            ]
        }
    )

    question: Words | None = Field(None, description="this or `messages`")
    messages: Annotated[list[Message], Field(min_length=1, max_length=MOST_MESSAGES)] | None = Field(
        None,
        description="a conversation, oldest turn first; the last turn is the user's and is the question, "
        "the earlier ones say what it refers to; user and assistant turns only, at most "
        f"{MOST_MESSAGE_CHARS:,} characters in all",
    )
    collection: CollectionName | None = Field(
        None, description="the collection to ask; the service's default if not given"
    )
    mode: AskMode = Field(
        "rag", description="rag: from the documents; closed_book: the model alone; quote: their words"
    )
    reading: ReadingWay = Field(
        "each",
        description="each: every passage apart, where the model has a reader; joint: all in one prompt",
    )
    model: Annotated[str, StringConstraints(min_length=1, max_length=200)] | None = Field(
        None, description="an installed MODEL or MODEL+ADAPTER, loaded on demand, or ollama/NAME"
    )
    k: int | None = Field(None, ge=1, le=50, description="number of passages")
    search_mode: SearchMode | None = None
    filters: Filters | None = None
    rerank: bool | None = Field(
        None, description="let the setting `reranker` order the first passages anew; if not given, as set"
    )
    context: Context = Field(
        "passage", description="what is read: passages, or the sections that they were cut from"
    )
    on_no_answer: Literal["refuse", "answer"] = "refuse"
    acceptable_error: float | None = Field(
        None,
        ge=0,
        le=1,
        description="share of answers that may be wrong; if not given the setting, or the calibrator's own",
    )
    session_id: SessionName | None = Field(
        None,
        description="a conversation that the service remembers, made by the first question that names it; "
        "with `question`, in place of `messages`",
    )
    stream: bool = Field(False, description="server-sent events instead of one JSON document")
    max_tokens: int | None = Field(None, ge=1, le=4096)
    temperature: float = Field(0.0, ge=0, le=100)
    top_k: int = Field(0, ge=0, le=1_000_000)
    top_p: float = Field(1.0, gt=0, le=1)
    min_p: float = Field(0.0, ge=0, le=1)
    repetition_penalty: float = Field(1.0, gt=0, le=100)
    num_beams: int = Field(
        1, ge=1, le=MOST_BEAMS, description="own models, where all passages are read in one prompt or none is"
    )
    length_penalty: float = Field(1.0, ge=-10, le=10, description="of beams: above 0 favours long replies")
    stop: list[Annotated[str, StringConstraints(min_length=1, max_length=200)]] = Field([], max_length=16)
    seed: int | None = Field(None, ge=0, lt=2**63)

    @model_validator(mode="after")
    def _one_question(self) -> Self:
        if (self.question is None) == (self.messages is None):
            raise ValueError("give either question or messages")
        if self.messages is not None and self.session_id is not None:
            raise ValueError("session_id goes with question: the service knows what was said in it before")
        if self.messages is not None:
            if self.messages[-1].role != "user":
                raise ValueError("the last of messages must be the user's: it is the question")
            total = sum(len(message.content) for message in self.messages)
            if total > MOST_MESSAGE_CHARS:
                raise ValueError(
                    f"messages have {total:,} characters, at most {MOST_MESSAGE_CHARS:,} are accepted: "
                    "leave out the oldest turns"
                )
        return self

    @property
    def asked(self) -> str:
        """The question itself."""
        return self.question if self.messages is None else self.messages[-1].content  # type: ignore[return-value]

    @property
    def history(self) -> tuple[Said, ...]:
        """The turns before the question, oldest first."""
        return tuple(Said(m.role, m.content) for m in (self.messages or [])[:-1])

    def sampling(self, default_max_tokens: int) -> Sampling:
        """How to decode."""
        return Sampling(
            max_tokens=self.max_tokens or default_max_tokens,
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
            num_beams=self.num_beams,
            length_penalty=self.length_penalty,
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
    cached_tokens: int = Field(0, description="tokens of the prompt that had been read before")


class TimingsReply(Reply):
    """Milliseconds."""

    search_ms: float
    first_token_ms: float | None
    total_ms: float


class OperatingPointReply(Reply):
    """Which answers are given, and what is known of them."""

    threshold: float = Field(description="an answer is given from this confidence on")
    expected_error: float | None = Field(
        description="share of such answers that were wrong when the calibrator was made; null: not known"
    )
    coverage: float | None = Field(description="share of the questions that were answered then")
    acceptable_error: float | None = Field(description="what was asked for; null: the calibrator's own point")


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
    standalone_question: str | None = Field(
        description="a follow-up question as it was understood; null where the question stood by itself"
    )
    citations: list[CitationReply]
    statements: list[StatementReply]
    sources: list[Passage]
    confidence: float | None = Field(description="probability that the answer is right, or would have been")
    calibrator: str | None = Field(description="who gave it; null: the retrieval alone")
    calibrator_note: str | None = Field(description="why that is not the one that one might expect")
    operating_point: OperatingPointReply | None = Field(
        description="from where on an answer is given; null where no calibrator spoke"
    )
    checks: dict[str, str] = Field(
        description="each check of the citations (quotation, overlap, evidence_gain): done, or why it was not"
    )
    reading: ReadingWay | None = Field(description="how the model read the passages; null where it did not")
    quoted_by: QuotedBy | None = Field(
        description="how the documents' own words were looked for; null where they were not"
    )
    conflict: bool = Field(description="passages contradict each other; the answer shows both")
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
            standalone_question=final.standalone_question,
            citations=[CitationReply.of(c) for c in final.citations],
            statements=[
                StatementReply(text=s.text.strip(), markers=list(s.markers), supported=s.supported)
                for s in final.statements
            ],
            sources=[Passage.of(h) for h in final.sources],
            confidence=final.confidence,
            calibrator=final.calibrator,
            calibrator_note=final.calibrator_note,
            operating_point=OperatingPointReply.model_validate(final.operating_point, from_attributes=True)
            if final.operating_point
            else None,
            checks=dict(final.checks),
            reading=final.reading,
            quoted_by=final.quoted_by,
            conflict=final.conflict,
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
    filters: Filters | None = None
    rerank: bool | None = Field(
        None, description="let the setting `reranker` order the first passages anew; if not given, as set"
    )
    context: Context = Field(
        "passage", description="section: with each passage the section that it was cut from"
    )


class SectionReply(Reply):
    """The section around a passage; of a long one, the lines around the passage."""

    page_first: int | None
    page_last: int | None
    char_start: int
    char_end: int
    text: str


class FoundPassage(Passage):
    """A passage, with its section where that was asked for."""

    section: SectionReply | None = None

    @classmethod
    def found(cls, hit: Hit, section: Surroundings | None) -> FoundPassage:
        """From a hit and what stands around it."""
        told = Passage.of(hit).model_dump() | {"section": None if section is None else asdict(section)}
        return cls.model_validate(told)


class SearchReply(Reply):
    """Passages, best first, all from one generation of the index."""

    hits: list[FoundPassage]
    index_generation: int
    search_ms: float
