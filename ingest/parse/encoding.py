"""Bytes to text when nobody says which encoding.

Order: a byte order mark; UTF-16 known by the places of its zero bytes; UTF-8, strictly; a declared encoding
(HTML) that decodes strictly; UTF-8 with a few broken bytes; at last charset-normalizer, limited to
encodings that people really have on disk (free choice finds exotic ones that decode anything). What was
chosen stands in the document's metadata; a guess that rests on few bytes is a warning.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from dataclasses import dataclass

from charset_normalizer import from_bytes

BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16: its mark begins with that of UTF-16
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
CANDIDATES = [
    "gb18030", "big5", "cp932", "euc_jp", "cp949",
    "cp1252", "cp1251", "koi8_r", "cp1253", "cp1255", "cp1256", "cp874",
]  # fmt: skip
#: Labels whose decoder is the larger set that browsers use (WHATWG Encoding Standard, "names and labels").
SUPERSETS = {
    "gb2312": "gb18030", "gbk": "gb18030", "x-gbk": "gb18030", "hz-gb-2312": "hz", "big5": "big5hkscs",
    "iso-8859-1": "cp1252", "latin1": "cp1252", "latin-1": "cp1252", "us-ascii": "cp1252", "ascii": "cp1252",
    "iso-8859-9": "cp1254", "shift_jis": "cp932", "shift-jis": "cp932", "x-sjis": "cp932", "euc-kr": "cp949",
    "ks_c_5601-1987": "cp949", "tis-620": "cp874",
}  # fmt: skip
_SEVEN_BIT = ("iso-2022-", "hz")  #: their bytes are ASCII, so that they would pass for UTF-8
SAMPLE = 64 * 1024
FEW_BYTES = 24  #: a guess from fewer non-ASCII bytes than this is told to the user

#: Polish letters of cp1250 read as cp1252 are signs inside words. Czech ones are other letters: see `_guess`.
_SIGN_IN_WORD = re.compile(r"[^\W\d_][¹³¿¼¾£¥][^\W\d_]")
_MIXED_WORD = re.compile(r"[A-Za-z][^\W\d_A-Za-z]|[^\W\d_A-Za-z][A-Za-z]")
_FOREIGN_WORD = re.compile(r"[^\W\d_A-Za-z]+")
_OTHER_SCRIPTS = ("cp1251", "koi8_r", "cp1253", "cp1255", "cp1256", "cp874")
_PRINTABLE = re.compile(rb"[\t\n\r -~]")
_NO_TEXT = ("Cc", "Cn", "Co", "Cs")


@dataclass(frozen=True, slots=True)
class Decoded:
    """Text, the encoding it was read with, and what the user should know about it."""

    text: str
    encoding: str
    warnings: tuple[str, ...] = ()


def looks_utf16(head: bytes) -> str | None:
    """The byte order of UTF-16 without a mark, or None.

    ASCII in it (at least line ends and spaces) puts zeros mostly into places of one parity, which tells the
    order; the text that comes out must then be text, and the bytes must not be ASCII with a stray zero.
    """
    head = head[: len(head) // 2 * 2]
    zeros = (head[::2].count(0), head[1::2].count(0))
    if len(head) < 4 or max(zeros) == 0 or min(zeros) > 0.25 * max(zeros):
        return None
    if len(_PRINTABLE.findall(head)) > 0.9 * len(head):
        return None
    name = "utf-16-be" if zeros[0] > zeros[1] else "utf-16-le"
    text = head.decode(name, "replace")
    odd = sum(
        c == "\ufffd" or (unicodedata.category(c) in _NO_TEXT and c not in "\t\r\n\f\x0b") for c in text
    )
    return name if odd <= 0.02 * len(text) else None


def looks_binary(head: bytes) -> bool:
    """Whether the first bytes of a file are no text in any encoding."""
    if any(head.startswith(bom) for bom, _ in BOMS) or looks_utf16(head):
        return False
    controls = sum(head.count(byte) for byte in range(32) if byte not in b"\t\n\x0b\x0c\r\x08\x1b")
    return controls > max(2, 0.005 * len(head))


def decode(data: bytes, declared: str | None = None) -> Decoded:
    """Text of `data`; never fails: the last resort is cp1252 with replacements, told as a warning."""
    for bom, name in BOMS:
        if data.startswith(bom):
            return _lenient(data[len(bom) :], name)
    if name16 := looks_utf16(data[:SAMPLE]):  # before UTF-8: Cyrillic in UTF-16 is made of ASCII bytes
        return _lenient(data, name16)
    if (
        declared
        and declared.strip().lower().startswith(_SEVEN_BIT)
        and (decoded := _declared(data, declared))
    ):
        return decoded
    try:
        return Decoded(data.decode("utf-8"), "utf-8")
    except UnicodeDecodeError:
        pass
    if declared and (decoded := _declared(data, declared)):
        return decoded
    foreign = sum(byte >= 0x80 for byte in data[:SAMPLE])
    almost = data.decode("utf-8", "replace")
    broken = almost.count("\ufffd")
    if broken <= 0.2 * sum(c >= "\x80" for c in almost):  # other encodings hardly ever form its sequences
        return Decoded(almost, "utf-8", (f"{broken} byte sequences are no UTF-8 and became U+FFFD",))
    name = _guess(data)
    decoded = _lenient(data, name)
    if foreign < FEW_BYTES:
        told = f"encoding guessed from {foreign} bytes: {name}; save the file as UTF-8 if letters look wrong"
        return Decoded(decoded.text, name, (*decoded.warnings, told))
    return decoded


def _lenient(data: bytes, name: str) -> Decoded:
    try:
        return Decoded(data.decode(name), name)
    except UnicodeDecodeError:
        text = data.decode(name, "replace")
        return Decoded(
            text, name, (f"{text.count(chr(0xFFFD))} byte sequences are no {name} and became U+FFFD",)
        )


def _declared(data: bytes, label: str) -> Decoded | None:
    label = label.strip().lower()
    try:
        name = codecs.lookup(SUPERSETS.get(label, label)).name
        return Decoded(data.decode(name), name)
    except (LookupError, UnicodeError, ValueError):
        return None


def _guess(data: bytes) -> str:
    # Whole lines around the first bytes that are not ASCII: what is plain ASCII says nothing about the
    # encoding.
    first = next((i for i, byte in enumerate(data) if byte >= 0x80), 0)
    begin = data.rfind(b"\n", 0, first) + 1
    sample = data[begin : begin + SAMPLE]
    if begin + SAMPLE < len(data):
        sample = sample[: sample.rfind(b"\n") + 1] or sample
    best = from_bytes(sample, cp_isolation=CANDIDATES, enable_fallback=False).best()
    name = best.encoding if best is not None else "cp1252"
    if name in _OTHER_SCRIPTS:  # a word of two scripts is a Latin word with an accent
        text = sample.decode(name, "replace")
        if 2 * len(_MIXED_WORD.findall(text)) > len(_FOREIGN_WORD.findall(text)):
            name = "cp1252"
    if name == "cp1252":
        central = from_bytes(sample, cp_isolation=["cp1250"], enable_fallback=False).best()
        western = from_bytes(sample, cp_isolation=["cp1252"], enable_fallback=False).best()
        if central is not None and (
            western is None
            or central.coherence > western.coherence + 0.05
            or _SIGN_IN_WORD.search(sample.decode("cp1252", "replace"))
        ):
            return "cp1250"
    return name
