"""Settings: `lorebase.toml`, then `LOREBASE_<TABLE>_<KEY>`, then flags.

Later ones win, unknown keys are errors.

This module owns the reading of settings for every wing (`read_table`); `service.settings` and
`model.__main__` call it with their own models. It imports no torch. Settings are read once, in an entry
point, and passed down from there.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from ingest.errors import IngestError

HOME_NAME = ".lorebase"
FILE_NAME = "lorebase.toml"
TABLES = ("ingest", "service", "model")

Table = TypeVar("Table", bound=BaseModel)


class SettingsError(IngestError):
    """A setting is unknown or has a value that does not fit."""


class IngestSettings(BaseModel):
    """Table `[ingest]`, variables `LOREBASE_INGEST_*`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    collection: str = Field("default", description="collection used where no --collection is given")
    store: str = Field(
        "sqlite",
        description="where documents and vectors are: sqlite (in the data folder), "
        "milvus+http://USER:PASSWORD@HOST:19530/DATABASE, or milvus+file:///path/to/base.db",
    )
    embedder: str = Field(
        "multilingual-e5-small",
        description="catalog name, hub id or folder, onnx/NAME, ollama/NAME or openai/NAME; fixed when a "
        "collection is made",
    )
    openai_upstreams: tuple[str, ...] = Field(
        (),
        description="servers with OpenAI's API for embedders openai/NAME, such as http://127.0.0.1:8080/v1; "
        "none: those of the table [service]",
    )
    openai_key_file: Path | None = Field(
        None, description="file with the key that those servers want; none: no key is sent"
    )
    server_query_prefix: str | None = Field(
        None,
        description="put before questions for ollama/NAME and openai/NAME; none: as the model's card says",
    )
    server_passage_prefix: str | None = Field(
        None,
        description="put before passages for ollama/NAME and openai/NAME; none: as the model's card says",
    )
    chunk_tokens: int = Field(
        224,
        ge=32,
        le=8192,
        description="upper bound of a chunk, counted by the embedder's tokenizer, heading path included",
    )
    chunk_overlap_tokens: int = Field(
        32, ge=0, le=1024, description="how far a chunk reaches back into the one before it"
    )
    workers: int = Field(0, ge=0, le=64, description="parser processes; 0 means one a core")
    engine: Literal["local", "ray"] = Field(
        "local",
        description="who reads and embeds files: processes of this machine, or workers of a Ray cluster",
    )
    ray_address: str | None = Field(
        None, description="the Ray cluster: auto or HOST:PORT; none: one is started here for the command"
    )
    parse_timeout_s: float = Field(60.0, gt=0, le=86_400, description="deadline for one file")
    parse_memory_mb: int = Field(
        2560, ge=128, le=1 << 22, description="memory limit of a parser process (Linux)"
    )
    ocr: Literal["auto", "off", "force"] = Field(
        "auto", description="read text off pictures: of pages without a text layer, never, of every PDF page"
    )
    max_file_mb: int = Field(1024, ge=1, description="larger files are refused before they are read")
    approximate_from: int = Field(
        100_000,
        ge=256,
        description="passages from which on vectors are searched through an approximate index",
    )
    url_max_mb: int = Field(32, ge=1, le=10_000, description="largest web page that is fetched")
    url_timeout_s: float = Field(30.0, gt=0, le=3600, description="deadline for fetching one web page")
    url_private: bool = Field(
        False, description="fetch pages also from this machine and from local networks, not only public ones"
    )
    search_k: int = Field(5, ge=1, le=100, description="passages a search returns")

    @field_validator("openai_upstreams", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        """An environment variable holds a comma-separated list."""
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value


def find_home(start: Path | None = None, environ: Mapping[str, str] = os.environ) -> Path:
    """The data folder in use: `LOREBASE_HOME`, else the nearest `.lorebase` upwards, else `start/.lorebase`.

    Searching upwards keeps a knowledge base from looking empty when a command runs in a sub-folder.
    """
    if named := environ.get("LOREBASE_HOME"):
        return Path(named).expanduser().resolve()
    here = _here(start)
    for folder in (here, *here.parents):
        if (folder / HOME_NAME).is_dir():
            return folder / HOME_NAME
    return here / HOME_NAME


def _here(start: Path | None) -> Path:
    try:
        return (start or Path.cwd()).resolve()
    except FileNotFoundError:
        raise SettingsError("the folder that you are in has been removed: go to another one (cd)") from None


def find_file(start: Path | None = None) -> Path | None:
    """The nearest `lorebase.toml` at or above `start`, or None."""
    here = _here(start)
    return next((f / FILE_NAME for f in (here, *here.parents) if (f / FILE_NAME).is_file()), None)


def read_table(
    table: str,
    model: type[Table],
    flags: Mapping[str, Any] | None = None,
    start: Path | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Table:
    """One settings object from file, environment and flags (flags that are None were not given).

    Raises:
        SettingsError: an unknown table, key or variable, or a value that does not fit; the message names it.
    """
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    if file := find_file(start):
        try:
            content = tomllib.loads(file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise SettingsError(f"{file} cannot be read as TOML: {error}. Mend or remove it.") from error
        if unknown := sorted(set(content) - set(TABLES)):
            raise SettingsError(f"{file}: unknown table [{unknown[0]}]; known are {', '.join(TABLES)}.")
        section = content.get(table, {})
        if not isinstance(section, dict):
            raise SettingsError(f"{file}: {table} must be a table, written [{table}].")
        values |= section
        sources |= dict.fromkeys(section, str(file))
    prefix = f"LOREBASE_{table.upper()}_"
    for name, value in environ.items():
        if name.startswith(prefix):
            key = name[len(prefix) :].lower()
            values[key], sources[key] = value, name
    for key, value in (flags or {}).items():
        if value is not None:
            values[key], sources[key] = value, "--" + key.replace("_", "-")
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0]) if first["loc"] else table
        known = ", ".join(model.model_fields)
        said = (
            f"there is no such setting. Known keys of [{table}]: {known}."
            if first["type"] == "extra_forbidden"
            else f"{first['msg']}. Got {first['input']!r}."
        )
        raise SettingsError(f"setting {key!r} (from {sources.get(key, table)}): {said}") from error


#: Ways of cutting that have a name.
CHUNKINGS = {"standard": "224-32"}


def chunked(settings: IngestSettings, chunking: str | None) -> IngestSettings:
    """The settings with another way of cutting: a name, `TOKENS` or `TOKENS-OVERLAP`; None changes nothing.

    Raises:
        SettingsError: it is none of these, or out of bounds.
    """
    if chunking is None:
        return settings
    tokens, _, overlap = CHUNKINGS.get(chunking, chunking).partition("-")
    if not (
        tokens.isascii() and tokens.isdigit() and (not overlap or (overlap.isascii() and overlap.isdigit()))
    ):
        raise SettingsError(
            f"{chunking!r} is no way of cutting: give TOKENS or TOKENS-OVERLAP, such as 224-32, or one of "
            f"{', '.join(CHUNKINGS)}."
        )
    most = int(tokens[:9])
    values = {"chunk_tokens": most, "chunk_overlap_tokens": int(overlap[:9]) if overlap else most // 7}
    try:
        return IngestSettings.model_validate(settings.model_dump() | values)
    except ValidationError as error:
        first = error.errors()[0]
        raise SettingsError(f"chunking {chunking!r}: {first['loc'][0]}: {first['msg']}.") from error


def chunking_of(settings: IngestSettings) -> str:
    """How these settings cut, as `chunked` reads it."""
    return f"{settings.chunk_tokens}-{settings.chunk_overlap_tokens}"
