"""Which parser reads which file: one table, and what the first bytes say about a file whatever its name is.

A name may lie. The content decides: a PDF called `notes.txt` is parsed as the PDF it is, with a warning; a
picture called `notes.md` is refused. Among text formats, which look alike, the name decides.
"""

from __future__ import annotations

import re
import zipfile
from dataclasses import dataclass
from pathlib import Path

from ingest.errors import ParseError, PasswordRequired, UnsupportedFormat
from ingest.parse.encoding import looks_binary

HEAD = 8192


@dataclass(frozen=True, slots=True)
class Format:
    """One row of the table."""

    name: str
    version: (
        int  #: part of the recipe: raised when the parser's output changes, so that files are parsed anew
    )
    module: str  #: imported when the first file of the format comes: a parser's libraries are slow to load
    suffixes: tuple[str, ...]
    media_types: tuple[str, ...]
    max_mib: int  #: what one file may weigh; most parsers hold several copies of a text in memory

    @property
    def recipe(self) -> str:
        """Name and version, as stored with each document."""
        return f"{self.name}/{self.version}"


CODE_SUFFIXES = (
    ".c", ".cc", ".cpp", ".cs", ".css", ".go", ".h", ".hpp", ".java", ".js", ".jsx", ".kt", ".lua", ".php",
    ".pl", ".ps1", ".py", ".r", ".rb", ".rs", ".scala", ".sh", ".sql", ".swift", ".ts", ".tsx",
)  # fmt: skip
FORMATS: tuple[Format, ...] = (
    Format("pdf", 1, "ingest.parse.pdf", (".pdf",), ("application/pdf",), 1024),
    Format(
        "docx", 1, "ingest.parse.docx", (".docx",),
        ("application/vnd.openxmlformats-officedocument.wordprocessingml.document",), 256,
    ),
    Format(
        "html", 1, "ingest.parse.html",
        (".html", ".htm", ".xhtml"), ("text/html", "application/xhtml+xml"), 16,
    ),
    Format(
        "markdown", 1, "ingest.parse.markdown",
        (".md", ".markdown", ".mdown", ".mkd"), ("text/markdown",), 16,
    ),
    Format(
        "text", 1, "ingest.parse.plain",
        (
            ".txt", ".text", ".log", ".rst", ".adoc", ".org", ".tex", ".csv", ".tsv", ".json", ".jsonl",
            ".yaml", ".yml", ".toml", ".ini", ".cfg", ".conf", ".srt", ".vtt", *CODE_SUFFIXES,
        ),
        ("text/plain", "text/csv", "application/json", "text/x-rst"), 64,
    ),
)  # fmt: skip
BY_NAME = {row.name: row for row in FORMATS}
BY_SUFFIX = {suffix: row for row in FORMATS for suffix in row.suffixes}

#: Text by their bytes, something else by their meaning: refused rather than stored as mark-up.
NOT_YET = {
    ".rtf": "an RTF document", ".eml": "an e-mail", ".mbox": "a mailbox", ".ipynb": "a notebook",
    ".svg": "a drawing", ".fb2": "an e-book", ".ps": "PostScript", ".eps": "PostScript",
}  # fmt: skip

MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"{\\rtf", "an RTF document"),
    (b"%!PS", "a PostScript file"),
    (b"\x89PNG\r\n\x1a\n", "a PNG picture (reading it takes OCR)"),
    (b"\xff\xd8\xff", "a JPEG picture (reading it takes OCR)"),
    (b"GIF8", "a GIF picture (reading it takes OCR)"),
    (b"II*\x00", "a TIFF picture (reading it takes OCR)"),
    (b"MM\x00*", "a TIFF picture (reading it takes OCR)"),
    (b"RIFF", "a RIFF file (WebP, WAV or AVI)"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ\x00", "an xz archive"),
    (b"(\xb5/\xfd", "a zstd archive"),
    (b"7z\xbc\xaf'\x1c", "a 7z archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"\x7fELF", "a program"),
    (b"MZ\x90", "a Windows program"),
    (b"SQLite format 3\x00", "an SQLite database"),
    (b"\xca\xfe\xba\xbe", "a Java class or a Mac program"),
    (b"OggS", "an Ogg recording"),
    (b"ID3", "an MP3 recording"),
    (b"GGUF", "a GGUF model"),
)
TEXT_MAGIC = (b"{\\rtf", b"%!PS")
#: The folder inside an Office Open XML package that tells which program's it is.
PACKAGES = {"word/": "docx", "ppt/": "pptx", "xl/": "xlsx"}
PACKAGE_WORDS = {
    "pptx": "a PowerPoint presentation (.pptx)",
    "xlsx": "an Excel workbook (.xlsx)",
    "epub": "an EPUB e-book",
    "odf": "an OpenDocument file",
    "zip": "a ZIP archive",
}
_HTML = re.compile(
    rb"(?>\s++|<!--.*?-->|<\?xml[^>]*+\?>)*+<(?:!doctype\s+html|html[\s>])", re.IGNORECASE | re.DOTALL
)
_PDF_BODY = re.compile(rb"%PDF-|^\d+ \d+ obj\b.*^endobj\b", re.DOTALL | re.MULTILINE)


def read_names() -> str:
    """The suffixes that can be read, for messages."""
    return "PDF, DOCX, HTML, Markdown and plain text"


def sniff(file: Path, name: str) -> str:
    """What the content is: the name of a format, where "text" is any kind of text; or "binary", unknown.

    Raises:
        UnsupportedFormat: it is recognisably something that no parser here reads.
        PasswordRequired: an Office file encrypted as a whole.
        ParseError: it cannot be opened.
    """
    try:
        with file.open("rb") as stream:
            head = stream.read(HEAD)
    except OSError as error:
        raise ParseError(f"{name}: cannot be read ({error.strerror}). Check that you may open it.") from error
    if b"%PDF-" in head[:1024]:  # the header may stand anywhere in them (PDF 1.7, implementation note 13)
        return "pdf"
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _package(file, name)
    if head.startswith(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"):
        _refuse_ole(file, name)
    binary = looks_binary(head)
    for magic, words in MAGIC:
        if head.startswith(magic) and (binary or magic in TEXT_MAGIC):  # a text may begin with "ID3", too
            raise UnsupportedFormat(
                f"{name}: is {words}, which Lorebase does not read. It reads {read_names()}."
            )
    if binary and head[4:8] == b"ftyp":
        raise UnsupportedFormat(
            f"{name}: is a film, recording or HEIF picture. Lorebase reads {read_names()}."
        )
    if binary:
        return "binary"
    if Path(name).suffix.lower() == ".pdf" and _PDF_BODY.search(head):
        return "pdf"
    return "html" if _HTML.match(head.removeprefix(b"\xef\xbb\xbf")) else "text"


def choose(file: Path, name: str) -> tuple[Format, tuple[str, ...]]:
    """The parser for a file, and warnings where its name says something else than its content.

    Raises:
        UnsupportedFormat, PasswordRequired, ParseError: as `sniff`.
    """
    suffix = Path(name).suffix.lower()
    declared = BY_SUFFIX.get(suffix)
    found = sniff(file, name)
    if found == "binary" and suffix == ".pdf":
        found = "pdf"  # its header is lost; the engines may still find their way, or will say what is wrong
    elif found == "binary":
        raise UnsupportedFormat(
            f"{name}: is binary data of an unknown kind, no text. Lorebase reads {read_names()}."
        )
    if found in ("text", "html"):
        if suffix in NOT_YET:
            raise UnsupportedFormat(
                f"{name}: is {NOT_YET[suffix]}, which Lorebase does not read. It reads {read_names()}."
            )
        if declared is not None and declared.name in ("html", "markdown"):
            return declared, ()
        if (
            declared is not None
            and declared.name == "text"
            and (found == "text" or suffix not in (".txt", ".text"))
        ):
            return declared, ()
    actual = BY_NAME[found]
    if actual is declared:
        return actual, ()
    called = f"named {suffix}" if suffix else "without a suffix"
    return actual, (f"{called}, but its content is {actual.name}: read as {actual.name}",)


def _package(file: Path, name: str) -> str:
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()[:5000]
            mimetype = (
                archive.read("mimetype")[:100]
                if "mimetype" in names and archive.getinfo("mimetype").file_size < 200
                else b""
            )
    except (
        zipfile.BadZipFile,
        zipfile.LargeZipFile,
        OSError,
        RuntimeError,
        NotImplementedError,
        ValueError,
        EOFError,
    ) as error:
        raise ParseError(
            f"{name}: a damaged or truncated ZIP container ({error}). Get the file again."
        ) from error
    kind = next((kind for folder, kind in PACKAGES.items() if any(n.startswith(folder) for n in names)), None)
    if kind is None or "[Content_Types].xml" not in names:
        kind = "epub" if b"epub" in mimetype else "odf" if b"opendocument" in mimetype else "zip"
    if kind == "docx":
        return kind
    called = Path(name).suffix.lower()
    but = f" (although it is named {called})" if called in BY_SUFFIX else ""
    raise UnsupportedFormat(
        f"{name}: is {PACKAGE_WORDS[kind]}{but}, which Lorebase does not read yet. It reads {read_names()}."
    )


def _refuse_ole(file: Path, name: str) -> None:
    """OLE compound files: old Office formats, and new ones encrypted as a whole ([MS-OFFCRYPTO] 2.3.4.4)."""
    with file.open("rb") as stream:
        data = stream.read(64 * 1024 * 1024)
    if "EncryptedPackage".encode("utf-16-le") in data:
        raise PasswordRequired(
            f"{name}: is encrypted by an Office program, which Lorebase cannot open even with the password. "
            "Save it there without a password and ingest it again."
        )
    old = {
        "WordDocument": "an old Word document (.doc)",
        "Workbook": "an old Excel workbook (.xls)",
        "PowerPoint Document": "an old PowerPoint file (.ppt)",
    }
    words = next(
        (words for stream, words in old.items() if stream.encode("utf-16-le") in data), "an OLE container"
    )
    raise UnsupportedFormat(f"{name}: is {words}. Save it as .docx or PDF and ingest it again.")
