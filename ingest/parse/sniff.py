"""What the first bytes, or the directory of a container, say about a file whatever its name is."""

from __future__ import annotations

import re
import zipfile
import zlib
from pathlib import Path

from ingest.errors import ParseError, PasswordRequired, UnsupportedFormat
from ingest.parse.encoding import looks_binary
from ingest.parse.formats import Format, added, by_suffix, settle, unsupported
from ingest.parse.source import Source

HEAD = 8192
MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"%!PS", "a PostScript file"),
    (b"GIF8", "a GIF picture"),
    (b"RIFF", "a RIFF file (WAV or AVI)"),
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
PICTURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\x00", b"MM\x00*")
TEXT_MAGIC = (b"%!PS",)
#: The folder inside an Office Open XML package that tells which program's it is.
PACKAGES = {"word/": "docx", "ppt/": "pptx", "xl/": "xlsx"}
_MIMETYPES = {
    b"application/epub+zip": "epub",
    b"application/vnd.oasis.opendocument.text": "odt",
    b"application/vnd.oasis.opendocument.spreadsheet": "ods",
    b"application/vnd.oasis.opendocument.presentation": "odp",
}
_HTML = re.compile(
    rb"(?>\s++|<!--.*?-->|<\?xml[^>]*+\?>)*+<(?:!doctype\s+html|html[\s>])", re.IGNORECASE | re.DOTALL
)
_PDF_OBJECT = re.compile(rb"^\d+ \d+ obj\b", re.MULTILINE)
_PDF_BODY = re.compile(rb"%PDF-|^\d+ \d+ obj\b.*^endobj\b", re.DOTALL | re.MULTILINE)


def choose(source: Source) -> tuple[Format, tuple[str, ...]]:
    """The parser for a file, and warnings where its name says something else than its content.

    Raises:
        UnsupportedFormat, PasswordRequired, ParseError: as `sniff`.
    """
    declared = by_suffix().get(source.suffix)
    if declared is not None and declared in added():
        return declared, ()
    return settle(source.name, sniff(source))


def sniff(source: Source) -> str:
    """What the content is: the name of a format, where "text" is any kind of text; or "binary", unknown.

    Raises:
        UnsupportedFormat: it is recognisably something that no parser here reads.
        PasswordRequired: an Office file encrypted as a whole.
        ParseError: it cannot be opened.
    """
    name = source.name
    with source.open() as stream:
        try:
            head = stream.read(HEAD)
        except OSError as error:
            raise source.unreadable(error) from error
    # The header may stand anywhere in the first 1,024 bytes (PDF 1.7, implementation note 13), where a text
    # may have it as a word.
    if head.startswith(b"%PDF-") or (
        b"%PDF-" in head[:1024]
        and (looks_binary(head) or _PDF_OBJECT.search(head) or Path(name).suffix.lower() == ".pdf")
    ):
        return "pdf"
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _package(source)
    if head.startswith(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"):
        _refuse_ole(source)
    if head.startswith(b"{\\rtf"):
        return "rtf"
    binary = looks_binary(head)
    if binary and (
        head.startswith(PICTURES)
        or (head.startswith(b"RIFF") and head[8:12] == b"WEBP")
        or (head.startswith(b"BM") and Path(name).suffix.lower() == ".bmp")
    ):
        return "picture"
    for magic, words in MAGIC:
        if head.startswith(magic) and (binary or magic in TEXT_MAGIC):  # a text may begin with "ID3", too
            raise unsupported(name, words)
    if binary and head[4:8] == b"ftyp":
        raise unsupported(name, "a film, recording or HEIF picture")
    if binary:
        return "binary"
    if Path(name).suffix.lower() == ".pdf" and _PDF_BODY.search(head):
        return "pdf"
    return "html" if _HTML.match(head.removeprefix(b"\xef\xbb\xbf")) else "text"


def _package(source: Source) -> str:
    """Which of the formats that are ZIP containers it is; "zip" where it is none of them."""
    try:
        with source.open() as stream, zipfile.ZipFile(stream) as archive:
            names = archive.namelist()[:5000]
            mimetype = b""
            if "mimetype" in names and archive.getinfo("mimetype").file_size < 200:
                mimetype = archive.read("mimetype").strip()
    except (
        zipfile.BadZipFile,
        zipfile.LargeZipFile,
        OSError,
        RuntimeError,
        NotImplementedError,
        ValueError,
        EOFError,
        zlib.error,
    ) as error:
        raise ParseError(
            f"{source.name}: a damaged or truncated ZIP container ({error}). Get the file again."
        ) from error
    if "[Content_Types].xml" in names:
        for folder, kind in PACKAGES.items():
            if any(name.startswith(folder) for name in names):
                return kind
    kind = next((k for m, k in _MIMETYPES.items() if mimetype in (m, m + b"-template")), "zip")
    if kind == "zip" and b"opendocument" in mimetype:
        raise unsupported(source.name, "an OpenDocument file that holds no text, table or presentation")
    return kind


def _refuse_ole(source: Source) -> None:
    """OLE compound files: old Office formats, and new ones encrypted as a whole ([MS-OFFCRYPTO] 2.3.4.4)."""
    with source.open() as stream:
        data = stream.read(64 * 1024 * 1024)
    if "EncryptedPackage".encode("utf-16-le") in data:
        raise PasswordRequired(
            f"{source.name}: is encrypted by an Office program, which Lorebase cannot open even with the "
            "password. Save it there without a password and ingest it again."
        )
    old = {
        "WordDocument": ("an old Word document (.doc)", "docx"),
        "Workbook": ("an old Excel workbook (.xls)", "xlsx"),
        "PowerPoint Document": ("an old PowerPoint file (.ppt)", "pptx"),
    }
    words, new = next(
        (found for stream_name, found in old.items() if stream_name.encode("utf-16-le") in data),
        ("an OLE container", "docx"),
    )
    raise UnsupportedFormat(f"{source.name}: is {words}. Save it as .{new} or PDF and ingest it again.")
