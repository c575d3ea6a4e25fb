"""Where a Milvus is: what the setting `store` says.

    milvus+http://HOST:19530                          a server; milvus+https:// with TLS
    milvus+http://USER:PASSWORD@HOST:19530/DATABASE   with an account, in a database of its own
    milvus+file:///path/to/base.db                    a Milvus Lite file, for one process

Options follow a question mark: `index=flat|hnsw` (exact, or approximate for very many passages), `timeout_s`
(how long an answer is waited for, retries included), `grace_s` (how long a question may take before what was
replaced meanwhile is deleted).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

from ingest.settings import SettingsError

EMBEDDED = "sqlite"
_SCHEMES = {"milvus+http": "http", "milvus+https": "https", "milvus+file": ""}
INDEXES = {"flat": "FLAT", "hnsw": "HNSW"}


class InvalidStore(SettingsError):
    """The setting `store` names no store."""


@dataclass(frozen=True, slots=True)
class Address:
    """A Milvus, and how it is used."""

    uri: str  #: for the client: a URL, or the path of a Lite file
    token: str = field(default="", repr=False)
    database: str = ""
    index: str = "flat"
    timeout_s: float = 10.0
    grace_s: float = 5.0

    @property
    def is_file(self) -> bool:
        """Whether it is a Milvus Lite file."""
        return "://" not in self.uri

    def __str__(self) -> str:
        return self.uri + (f"/{self.database}" if self.database else "")


def is_milvus(store: str) -> bool:
    """Whether the setting `store` means a Milvus; else it is the embedded one. Raises InvalidStore."""
    if store in (EMBEDDED, ""):
        return False
    if store.partition("://")[0] not in _SCHEMES:
        raise InvalidStore(
            f"store {store.rpartition('@')[2]!r} is neither {EMBEDDED!r} nor an address such as "
            "milvus+http://127.0.0.1:19530 or milvus+file:///path/to/base.db."
        )
    return True


def without_password(store: str) -> str:
    """The setting `store` as it may be shown."""
    scheme, slashes, rest = store.partition("://")
    return f"{scheme}{slashes}***@{rest.rpartition('@')[2]}" if "@" in rest else store


def parse(store: str) -> Address:
    """The address that the setting `store` names. Raises InvalidStore; a password is in no message."""
    is_milvus(store)
    try:
        url = urlsplit(store)
        options = dict(parse_qsl(url.query, strict_parsing=bool(url.query)))
        shown = f"{url.scheme}://{url.hostname or ''}{url.path}"
        known = {"index", "timeout_s", "grace_s"}
        if strange := sorted(set(options) - known):
            raise InvalidStore(f"store {shown}: unknown option {strange[0]!r}; known: {sorted(known)}.")
        if (index := options.get("index", "flat")) not in INDEXES:
            raise InvalidStore(f"store {shown}: index {index!r} is none of {sorted(INDEXES)}.")
        numbers = {key: float(options[key]) for key in ("timeout_s", "grace_s") if key in options}
        if any(not 0 <= number <= 3600 for number in numbers.values()):
            raise ValueError("a number of seconds out of bounds")
        if url.scheme == "milvus+file":
            path = unquote(url.path)
            if url.netloc or not path.endswith(".db") or len(path) < 5:
                raise InvalidStore(f"store {shown}: a Milvus Lite file is milvus+file:///path/to/base.db.")
            return Address(path, "", "", index, **numbers)
        if not url.hostname:
            raise ValueError("no host")
        host = f"[{url.hostname}]" if ":" in url.hostname else url.hostname
        uri = f"{_SCHEMES[url.scheme]}://{host}:{url.port or 19530}"
        token = f"{unquote(url.username)}:{unquote(url.password or '')}" if url.username else ""
        return Address(uri, token, unquote(url.path.strip("/")), index, **numbers)
    except ValueError as error:
        raise InvalidStore(
            "store cannot be read as an address: write milvus+http://USER:PASSWORD@HOST:19530/DATABASE, with "
            "special characters of the password percent-encoded."
        ) from error
