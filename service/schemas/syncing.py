"""A folder elsewhere, as it is told to the service."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field, StringConstraints

from service.schemas.wire import CollectionName, Reply, Request, Words

MOST_FILES = 50_000
Sha256 = Annotated[str, StringConstraints(pattern=r"^(?:sha256:)?[0-9a-fA-F]{64}$")]


class ManifestEntry(Request):
    """One file."""

    path: Words = Field(description="what the document is, or will be, known by")
    hash: Sha256 = Field(description="SHA-256 of the file's bytes, in hexadecimal")
    size: int | None = Field(None, ge=0, lt=2**63, description="in bytes; the hash decides")


class Manifest(Request):
    """`POST /documents/sync`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "files": [
                        {
                            "path": "notes/today.md",
                            "hash": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
                            "size": 4,
                        }
                    ],
                    "prefix": "notes/",
                }
            ]
        }
    )

    files: list[ManifestEntry] = Field(
        min_length=1, max_length=MOST_FILES, description="every file of the folder; the whole, not a part"
    )
    collection: CollectionName | None = None
    prefix: Annotated[str, StringConstraints(max_length=1000)] = Field(
        "", description="compare only with documents whose path begins like this"
    )
    forget: bool = Field(
        False, description="also forget the documents that the folder no longer has; they are `deleted` then"
    )


class SyncReply(Reply):
    """What differs; `added` and `modified` are the files to upload, spelled as they came."""

    collection: str
    added: list[str]
    modified: list[str]
    deleted: list[str] = Field(description="documents that the folder does not have")
    unchanged: int
    forgotten: int = Field(description="how many of `deleted` have been forgotten")
