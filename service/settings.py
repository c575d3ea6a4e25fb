"""Settings of the service: table `[service]`, variables `LOREBASE_SERVICE_*`, flags of `python -m service`.

Read once, in `service.__main__`, through `ingest.settings.read_table`; below that, values are passed.
"""

from __future__ import annotations

import ipaddress
import os
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from ingest.types import SearchMode
from service.errors import UnsafeBind
from service.logs import LogFormat, LogLevel


class ServiceSettings(BaseModel):
    """Table `[service]`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = Field(
        "127.0.0.1", description="address to listen on; anything but loopback is refused without a key"
    )
    api_key_file: Path | None = Field(
        None, description="file with the key that every request must bring; none: no key is asked for"
    )
    database: str = Field(
        "sqlite",
        description="where keys and conversations are: sqlite (in the data folder), or "
        "postgresql://USER:PASSWORD@HOST:5432/NAME, which several services can share",
    )
    port: int = Field(8000, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    model: str = Field(
        "smollm2-135m-instruct",
        description="generator that answers by default: an installed MODEL or MODEL+ADAPTER, or ollama/NAME",
    )
    resident_models: int = Field(
        2,
        ge=1,
        le=64,
        description="own models kept in memory; the least recently asked is dropped for a new one",
    )
    kernel: Literal["auto", "float32", "bfloat16", "float32+packed", "bfloat16+packed"] = Field(
        "auto", description="what own models compute with; auto takes what a probe at the start finds fastest"
    )
    collection: str = Field("default", description="collection that is asked by default")
    k: int = Field(5, ge=1, le=50, description="passages that a question retrieves")
    search_mode: SearchMode = Field("hybrid", description="hybrid, dense or keyword")
    reranker: str = Field(
        "generator",
        description="who may order the first passages anew: a cross-encoder's name or folder, or `generator` "
        "for the default model's query likelihood; empty: nobody",
    )
    rerank: bool = Field(False, description="whether it does so where a request does not say")
    max_tokens: int = Field(
        96, ge=1, le=4096, description="longest generated answer of an own model, in its tokens"
    )
    remote_max_tokens: int = Field(
        1024,
        ge=1,
        le=4096,
        description="the same for a model of another server (Ollama, OpenAI's API), beside what it thinks",
    )
    refuse_below: float = Field(
        0.5, ge=0, le=1, description="relevance under which a question is refused; 0 never refuses"
    )
    acceptable_error: float | None = Field(
        None,
        ge=0,
        le=1,
        description="share of answers that may be wrong, such as 0.1; none: what the calibrator says",
    )
    reading_cache_mb: int = Field(
        256, ge=0, le=1_000_000, description="memory for what was read of passages; 6 MB hold 256 tokens"
    )
    max_question_chars: int = Field(8000, ge=1, le=100_000, description="longest question, in characters")
    max_upload_mb: int = Field(200, ge=1, le=10_000, description="largest upload, all files together")
    max_upload_files: int = Field(100, ge=1, le=1000, description="most files in one upload")
    fetch_urls: bool = Field(
        False, description="whether POST /documents may name a web page that the service then fetches"
    )
    queue_length: int = Field(
        4, ge=0, le=1000, description="questions that may wait while one is answered; past it: 429"
    )
    job_queue_length: int = Field(32, ge=1, le=1000, description="uploads that may wait; past it: 429")
    deadline_s: float = Field(
        120.0, gt=0, le=3600, description="longest time for one question, waiting included"
    )
    requests_per_minute: int | None = Field(
        None,
        ge=0,
        le=1_000_000,
        description="requests that one key, or one address without a key, may send; past it: 429; 0: any "
        "number; none given: any number on loopback, elsewhere 600",
    )
    log_format: LogFormat = Field(
        "text", description="what the service writes to standard error: text or json"
    )
    log_level: LogLevel = Field(
        "warning", description="from which level on; info has a line for every request, without its text"
    )
    shutdown_grace_s: float = Field(
        10.0, ge=0, le=600, description="time that running questions get to finish at the end"
    )
    trusted_hosts: tuple[str, ...] = Field(
        ("127.0.0.1", "localhost", "[::1]"), description="names the service may be called by (Host header)"
    )
    ollama_context_tokens: int = Field(
        8192, ge=512, description="num_ctx sent to Ollama, unless the model's own window is smaller"
    )

    openai_upstreams: tuple[str, ...] = Field(
        (), description="servers that speak OpenAI's API (vLLM, llama.cpp), such as http://127.0.0.1:8080/v1"
    )
    openai_key_file: Path | None = Field(
        None, description="file with the key that those servers want; none: no key is sent"
    )
    openai_context_tokens: int = Field(
        8192, ge=512, description="window that models of those servers are taken to have"
    )

    @field_validator("collection")
    @classmethod
    def _composed(cls, value: str) -> str:
        """As its folder is called."""
        return unicodedata.normalize("NFC", value)

    def longest(self, *, own: bool) -> int:
        """Tokens of an answer from documents where none are given, of an own model or of another server's."""
        return self.max_tokens if own else self.remote_max_tokens

    @property
    def rate_limit(self) -> int:
        """Requests that one caller may send in a minute; 0: any number."""
        if self.requests_per_minute is not None:
            return self.requests_per_minute
        return 0 if is_loopback(self.host) else 600

    @field_validator("trusted_hosts", "openai_upstreams", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        """An environment variable holds a comma-separated list."""
        return (
            tuple(part.strip() for part in value.split(",") if part.strip())
            if isinstance(value, str)
            else value
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a service that listens there."""
    name = host.strip("[]")
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


def check_bind(settings: ServiceSettings, *, keys: bool = False) -> None:
    """Refuse an address that other machines can reach, unless a key keeps them out.

    Args:
        settings: with the address, and the key file if there is one.
        keys: whether the data folder has keys.

    Raises:
        UnsafeBind: the address is not loopback, and there is no key.
    """
    if not is_loopback(settings.host) and settings.api_key_file is None and not keys:
        raise UnsafeBind(
            f"refusing to listen on {settings.host}: other machines could reach it, and no key keeps "
            "them out. Make one (python -m service keys create NAME), or use --host 127.0.0.1, and "
            "from other machines an SSH tunnel: ssh -L 8000:127.0.0.1:8000 HOST"
        )


def ollama_host(environ: Mapping[str, str] = os.environ) -> str:
    """Where Ollama listens: `OLLAMA_HOST` as its owner means it, bind forms turned into one to call."""
    host = environ.get("OLLAMA_HOST", "").strip() or "127.0.0.1:11434"
    return host.replace("0.0.0.0", "127.0.0.1", 1)  # noqa: S104 - an address to call, not to bind
