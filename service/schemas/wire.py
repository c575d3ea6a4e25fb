"""What every shape on the wire keeps to: text that UTF-8 can carry, no unknown fields."""

from __future__ import annotations

import unicodedata
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints


def encodable(text: str) -> str:
    """JSON can spell half a surrogate pair, which no file, index or tokenizer can hold."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError("holds half of a surrogate pair, which is not text") from error
    return text


Text = Annotated[str, AfterValidator(encodable)]
Words = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=100_000),
    AfterValidator(encodable),
]


def composed(name: str) -> str:
    """A collection's name as its folder has it: macOS spells é as two characters, and means the same."""
    return unicodedata.normalize("NFC", name)


CollectionName = Annotated[
    str,
    StringConstraints(min_length=1, max_length=64),
    AfterValidator(encodable),
    AfterValidator(composed),
]
#: In a path, where what is no name is one that nobody has.
CollectionInPath = Annotated[str, AfterValidator(composed)]


class Request(BaseModel):
    """Base of what comes in."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Reply(BaseModel):
    """Base of what goes out."""

    model_config = ConfigDict(frozen=True)
