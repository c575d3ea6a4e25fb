"""Archives and mails: files within files, and what hostile ones cost."""

from __future__ import annotations

import io
import mailbox
import os
import zipfile
from email.message import EmailMessage
from pathlib import Path

import pytest

from ingest.errors import EmptyDocument, ParseError, PasswordRequired, UnsupportedFormat
from ingest.parse import parse_file
from ingest.types import Document

SAMPLES = Path(__file__).parent / "samples" / "formats"


def parse(path: Path, password: str | None = None) -> Document:
    document = parse_file(path, password=password, max_bytes=1 << 30)
    assert "".join(document.text[s.char_start : s.char_end] for s in document.sections) == document.text
    return document


def packed(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return stream.getvalue()


def put(folder: Path, members: dict[str, bytes]) -> Path:
    path = folder / "archive.zip"
    path.write_bytes(packed(members))
    return path


def section_of(document: Document, fact: str) -> tuple[str, ...]:
    at = document.text.index(fact)
    (section,) = [s for s in document.sections if s.char_start <= at < s.char_end]
    return section.heading_path


def test_members_are_sections_under_their_paths(tmp_path: Path) -> None:
    inner = packed({"deep/note.md": b"# Top\n\nburied words"})
    document = parse(
        put(
            tmp_path,
            {
                "a/page.html": b"<html><body><h1>Head</h1><p>first words</p></body></html>",
                "inner.zip": inner,
                "report.pdf": (SAMPLES.parent / "page_lost.pdf").read_bytes(),
                "picture.xyz": b"\0",
                ".hidden/x.txt": b"hidden",
                "__MACOSX/x.txt": b"hidden",
                "bad.docx": b"PK\x03\x04 no",
                "empty.txt": b"",
            },
        )
    )
    assert section_of(document, "first words") == ("a/page.html", "Head")
    assert section_of(document, "buried words") == ("inner.zip", "deep/note.md", "Top")
    assert section_of(document, "ferry leaves") == ("report.pdf", "page 2")
    assert "hidden" not in document.text and document.title == "archive"
    told = "\n".join(document.warnings)
    assert "bad.docx: a damaged or truncated ZIP" in told and "empty.txt: the file is empty" in told
    assert "1 member(s) were left out" in told


def test_names_that_lead_out_of_the_archive_are_only_names(tmp_path: Path) -> None:
    before = sorted(tmp_path.parent.rglob("*"))
    folder = tmp_path / "in"
    folder.mkdir()
    names = ["../../escape.txt", "/etc/absolute.txt", "..\\..\\windows.txt", "a/\x1b[31mred.txt"]
    document = parse(put(folder, {name: f"words {n}".encode() for n, name in enumerate(names)}))
    tops = [s.heading_path[0] for s in document.sections][::2]
    assert tops == ["escape.txt", "etc/absolute.txt", "windows.txt", "a/[31mred.txt"]
    assert sorted(set(tmp_path.parent.rglob("*")) - {folder, *folder.rglob("*")}) == before


def test_bombs_cost_themselves_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = b"\0" * 50_000_000
    document = parse(put(tmp_path, {"bomb.txt": bomb, "good.txt": b"good words"}))
    assert document.text == "good.txt\n\ngood words"
    assert "bomb.txt: unpacks to" in document.warnings[0] and "times its size" in document.warnings[0]
    nested = packed({"x.txt": b"deepest"})
    for _ in range(5):
        nested = packed({"y.zip": nested, "z.txt": b"shallow"})
    document = parse(put(tmp_path, {"n.zip": nested}))
    assert "shallow" in document.text and "deepest" not in document.text
    assert "archives or mails deep" in "\n".join(document.warnings)
    document = parse(put(tmp_path, {f"{n}.txt": b"word" for n in range(2_500)}))
    assert document.metadata["members"] == "2000" and "holds too much" in document.warnings[-1]
    monkeypatch.setattr("ingest.parse.archive.MOST_ENTRIES", 10)
    with pytest.raises(ParseError, match="over the limit"):
        parse(put(tmp_path, {f"{n}.txt": b"word" for n in range(11)}))


def test_all_members_share_one_allowance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A zip of zips, each harmless, which multiply."""
    monkeypatch.setattr("ingest.parse.source.Allowance.__init__.__defaults__", (2_000, 300_000))
    inner = packed({f"{n}.txt": os.urandom(5_000).hex().encode() for n in range(20)})
    document = parse(put(tmp_path, {f"{n}.zip": inner for n in range(50)}))
    assert 150_000 < len(document.text) < 300_000
    assert "more than may still be unpacked" in "\n".join(document.warnings)


def test_encrypted_and_empty_archives(tmp_path: Path) -> None:
    # Written by Info-ZIP: zip -P secret secret.zip note.txt, with the words "under lock".
    path = SAMPLES.parent / "secret.zip"
    for wrong in (None, "wrong"):
        with pytest.raises(PasswordRequired, match=r"note\.txt: is encrypted.*`--password`"):
            parse(path, wrong)
    assert "under lock" in parse(path, "secret").text
    with pytest.raises(UnsupportedFormat, match="2 of other kinds"):
        parse(put(tmp_path, {"a.xyz": b"1", "b.bin": b"2"}))
    with pytest.raises(EmptyDocument, match=r"archive\.zip"):
        parse(put(tmp_path, {"a.txt": b" "}))
    data = packed({"a.txt": b"words" * 100, "b.txt": b"words"})
    (tmp_path / "cut.zip").write_bytes(data[: len(data) // 2])
    with pytest.raises(ParseError, match="damaged or truncated"):
        parse(tmp_path / "cut.zip")
    flipped = bytearray(data)
    flipped[45] ^= 0xFF  # inside the first member's data
    (tmp_path / "flipped.zip").write_bytes(flipped)
    document = parse(tmp_path / "flipped.zip")
    assert document.text == "b.txt\n\nwords" and "a.txt: is damaged in the archive" in document.warnings[0]


# --- mails


def letter(subject: str, text: str) -> EmailMessage:
    message = EmailMessage()
    message["Subject"], message["From"], message["To"] = subject, "Ada <ada@example.org>", "ben@example.org"
    message["Date"] = "Sun, 01 Mar 2026 04:00:07 +0100"
    message.set_content(text)
    return message


def test_a_mail_with_attachments(tmp_path: Path) -> None:
    message = letter("Grüße aus 潮位站", "plain words")
    message.add_alternative("<p>styled <b>words</b></p>", subtype="html")
    message.add_attachment(b"a,b\n1,2\n", maintype="text", subtype="csv", filename="../täble.csv")
    message.add_attachment(b"\0\1", maintype="application", subtype="octet-stream", filename="x.xyz")
    message.add_attachment(b"PK\x03\x04", maintype="application", subtype="zip", filename="bad.zip")
    message.add_attachment(letter("Inner", "inner words"))
    path = tmp_path / "x.eml"
    path.write_bytes(bytes(message))
    document = parse(path)
    assert document.title == "Grüße aus 潮位站"
    assert document.metadata["created"] == "2026-03-01T04:00:07+01:00"
    assert document.metadata["author"] == "Ada <ada@example.org>"
    assert "styled" not in document.text
    assert "Attachments: täble.csv, x.xyz, bad.zip, message.eml" in document.text
    assert section_of(document, "plain words") == ("Grüße aus 潮位站",)
    assert section_of(document, "| 1 | 2 |") == ("Grüße aus 潮位站", "täble.csv")
    assert section_of(document, "inner words") == ("Grüße aus 潮位站", "message.eml", "Inner")
    assert [warning.split(":")[0] for warning in document.warnings] == ["bad.zip"]


def test_html_mails_odd_encodings_and_broken_headers(tmp_path: Path) -> None:
    path = tmp_path / "x.eml"
    page = "<html><body><h1>Köln</h1><p>Gruß</p></body></html>".encode("latin-1")
    path.write_bytes(
        b"Subject: =?utf-8?b?broken\r\nFrom: <<>,,@\r\nContent-Type: text/html; charset=latin-1\r\n\r\n"
        + page
    )
    assert parse(path).text.endswith("Köln\n\nGruß")
    path.write_bytes(b"Subject: x\nContent-Type: text/plain; charset=no-such\n\nstill words \xe4\xb8\xad")
    assert "still words 中" in parse(path).text
    for boundary in (b"", b'; boundary="x"'):  # a multipart without the marks between its parts
        path.write_bytes(b"Subject: x\nContent-Type: multipart/mixed" + boundary + b"\n\nwhat it says")
        assert parse(path).text == "Subject: x\n\nwhat it says"
    path.write_bytes(b"no header at all, only words")
    with pytest.raises(ParseError, match="mail header"):
        parse(path)
    nested = b"Subject: x\n" + b"".join(
        b'Content-Type: multipart/mixed; boundary="%d"\n\n--%d\n' % (n, n) for n in range(3_000)
    )
    path.write_bytes(nested)
    with pytest.raises((ParseError, EmptyDocument)):
        parse(path)


def test_a_mailbox(tmp_path: Path) -> None:
    path = tmp_path / "x.mbox"
    box = mailbox.mbox(path)
    for number in range(3):
        box.add(letter(f"Mail {number}", f"words {number}\n\nFrom here on, line {number}\n"))
    box.close()
    document = parse(path)
    assert document.metadata["messages"] == "3" and document.title == "x"
    assert section_of(document, "words 1") == ("Mail 1",)
    assert section_of(document, "\nFrom here on, line 2") == ("Mail 2",)
