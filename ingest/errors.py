"""Everything that can go wrong between a file and a hit.

    IngestError
    ├── UnsupportedFormat      no parser for this suffix or content
    ├── ParseError             the file is damaged, truncated, or not what its suffix says
    │   ├── PasswordRequired   encrypted; no password, or a wrong one
    │   └── ParseTimeout       the parser ran past its deadline or its memory limit
    ├── EmptyDocument          reading worked, there is no text in it
    ├── EmbedderError          the embedder could not be loaded or failed
    │   ├── EmbedderAway       the server that embeds does not answer, or fails
    │   └── RerankerError      the reranker, likewise
    ├── UnknownCollection      no collection of that name
    │   └── CollectionClosed   not any more: it was deleted or replaced while somebody had it open
    ├── UnknownDocument        no document of that path or id
    ├── IndexMismatch          made with another embedder; names the command that rebuilds
    ├── IndexDamaged           hashes or counts disagree, or SQLite says the file is corrupt
    ├── SchemaTooNew           written by a newer Lorebase
    ├── CollectionLocked       another process is writing
    ├── StorageFull            no space left, or the disk refused to write
    └── StoreUnavailable       the server that holds the index is away or refuses us

A message says what happened, where, and what to do next. Library exceptions are translated in the module that
calls the library, chained with `from`.
"""


class IngestError(Exception):
    """Root of the tree."""


class UnsupportedFormat(IngestError):
    """No parser for this suffix or content."""


class ParseError(IngestError):
    """The file is damaged, truncated, or not what its suffix says."""


class PasswordRequired(ParseError):
    """Encrypted: no password was given, or it does not open the file."""


class ParseTimeout(ParseError):
    """The parser ran past its deadline or its memory limit."""


class EmptyDocument(IngestError):
    """Reading worked; there is no text in it."""


class EmbedderError(IngestError):
    """The embedder could not be loaded or failed."""


class EmbedderAway(EmbedderError):
    """The server that embeds does not answer, or fails; `passing`: another try may help."""

    def __init__(self, message: str, *, passing: bool = True) -> None:
        super().__init__(message)
        self.passing = passing


class RerankerError(EmbedderError):
    """The reranker could not be loaded or failed."""


class UnknownCollection(IngestError):
    """No collection of that name."""


class CollectionClosed(UnknownCollection):
    """It was closed, because it was deleted or replaced, while somebody had it open."""


class UnknownDocument(IngestError):
    """No document of that path or id."""


class IndexMismatch(IngestError):
    """The collection was made with another embedder or dimension."""


class IndexDamaged(IngestError):
    """Hashes or counts disagree, or SQLite reports corruption."""


class SchemaTooNew(IngestError):
    """The collection was written by a newer Lorebase."""


class CollectionLocked(IngestError):
    """Another process is writing to this collection."""


class StorageFull(IngestError):
    """No space left, or the disk refused to write."""


class StoreUnavailable(IngestError):
    """The server that holds the index does not answer, or does not let us in."""
