"""`POST /score` and `POST /embed`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, StringConstraints

from service.schemas.wire import Reply, Request, Text

#: Most texts in one request, and how long one may be.
MOST_TEXTS, MOST_CHARS = 512, 100_000


class ScoreRequest(Request):
    """`POST /score`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"prompt": "The capital of France is", "continuations": [" Paris", " Rome"]}]
        }
    )

    prompt: Annotated[Text, StringConstraints(min_length=1, max_length=MOST_CHARS)] = Field(
        description="read as it stands, without a chat template"
    )
    continuations: list[Annotated[Text, StringConstraints(min_length=1, max_length=10_000)]] = Field(
        min_length=1, max_length=MOST_TEXTS, description="each is put right behind the prompt"
    )
    model: Annotated[str, StringConstraints(min_length=1, max_length=200)] | None = Field(
        None, description="an installed MODEL or MODEL+ADAPTER"
    )


class ScoredReply(Reply):
    """One continuation."""

    text: str
    tokens: list[str] = Field(description="half a character shows as U+FFFD")
    token_ids: list[int]
    logprobs: list[float] = Field(description="of each token, given what stands before it; natural")
    logprob: float = Field(description="of the whole: their sum")


class ScoreReply(Reply):
    """Continuations in the order in which they were given."""

    model: str
    prompt_tokens: int
    results: list[ScoredReply]


class EmbedRequest(Request):
    """`POST /embed`."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"texts": ["How tall is the tower?"], "kind": "query"}]}
    )

    texts: list[Annotated[Text, StringConstraints(min_length=1, max_length=MOST_CHARS)]] = Field(
        min_length=1, max_length=MOST_TEXTS
    )
    kind: Literal["query", "passage"] = "passage"
    model: Annotated[str, StringConstraints(min_length=1, max_length=200)] | None = Field(
        None, description="the installed embedder, by name"
    )
    truncate: bool = Field(False, description="cut what is too long for the embedder instead of refusing it")


class EmbedReply(Reply):
    """Vectors of unit length, in the order of the texts."""

    model: str
    dimension: int
    vectors: list[list[float]]
    tokens: int = Field(description="that were read, of all texts together")
