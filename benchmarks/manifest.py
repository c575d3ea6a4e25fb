"""The real files of the public sets' manifest (`LOREBASE_DATA`): what each should yield, and what it does yield.

    python -m benchmarks.manifest [--ocr off]

Every file goes through the parser processes that ingestion uses. `text`: every string that the manifest names is there,
in its order, with the pages it counts, and every fact on its page; `ocr` and `garbled`: read by OCR (without it an
error that says so); `needs_password`: refused without the password, read with it; `unreadable` and `no_text`: an error
that says why, never an empty success. Texts are compared after NFKC and without white space. Exits with 1 where a
file does not yield what it should; the tests hold the same and more.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any

from ingest.errors import EmptyDocument, IngestError, ParseError, PasswordRequired
from ingest.sandbox import ParserPool
from ingest.settings import IngestSettings
from ingest.types import Document

FOLDER = Path(os.environ.get("LOREBASE_DATA", "../shared/data")) / "documents"
REFUSALS = {"needs_password": PasswordRequired, "unreadable": ParseError, "no_text": EmptyDocument}


def bare(text: str) -> str:
    return "".join(unicodedata.normalize("NFKC", text).split())


def judge(entry: dict[str, Any], document: Document) -> tuple[bool, str]:
    """Whether the document has what the manifest names, and how much of it."""
    text = bare(document.text)
    wanted = entry.get("must_contain", [])
    there = sum(bare(one) in text for one in wanted)
    said = [f"{len(document.text):,} characters", f"{there}/{len(wanted)} strings"]
    right = there == len(wanted)
    if ordered := entry.get("in_order"):
        places = [text.find(bare(one)) for one in ordered]
        right &= -1 not in places and places == sorted(places)
        said.append("in order" if places == sorted(places) else "out of order")
    if "pages" in entry:
        right &= len(document.pages) == entry["pages"]
        said.append(f"{len(document.pages)}/{entry['pages']} pages")
    facts = [q for q in entry.get("questions", []) if q.get("page") and bare(q["answer"]) in text]
    if facts:
        pages = {p.number: bare(document.text[p.char_start : p.char_end]) for p in document.pages}
        placed = sum(bare(q["answer"]) in pages.get(q["page"], "") for q in facts)
        right &= placed == len(facts)
        said.append(f"{placed}/{len(facts)} facts on their page")
    if document.warnings:
        said.append("; ".join(document.warnings))
    return right, ", ".join(said)


def look(entry: dict[str, Any], pool: ParserPool, ocr: str) -> tuple[bool, str]:
    """Whether a file yields what it should, and what it yields."""
    expect = entry["expect"]

    def parse(password: str | None) -> Document:
        return pool.parse(FOLDER / entry["file"], password=password, max_bytes=1 << 30, ocr=ocr)  # type: ignore[arg-type]

    try:
        document = parse(None)
    except IngestError as error:
        refused = f"{type(error).__name__}: {error}".removesuffix(".")
        if expect in ("ocr", "garbled"):
            return ocr == "off" and isinstance(error, EmptyDocument), refused
        if not isinstance(error, REFUSALS.get(expect, ())):
            return False, refused
        if "password" not in entry:
            return True, refused
        right, said = judge(entry, parse(entry["password"]))
        return right, f"{type(error).__name__}; with the password {said}"
    right, said = judge(entry, document)
    if expect == "garbled":
        return any("OCR" in warning for warning in document.warnings), said
    return right and expect in ("text", "ocr"), said


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ocr", choices=("auto", "off"), default="auto")
    args = parser.parse_args()
    if not (FOLDER / "manifest.json").is_file():
        sys.exit(f"no manifest in {FOLDER}: set LOREBASE_DATA")
    entries = json.loads((FOLDER / "manifest.json").read_text(encoding="utf-8"))
    settings = IngestSettings()
    outcomes: Counter[tuple[str, bool]] = Counter()
    print("| file | should yield | yields |\n| --- | --- | --- |")
    with ParserPool(1, settings.parse_timeout_s, settings.parse_memory_mb) as pool:
        for entry in entries:
            right, said = look(entry, pool, args.ocr)
            outcomes[entry["expect"], right] += 1
            said = said if right else f"**not so**: {said}"
            print(f"| {entry['file']} | {entry['expect']} | {said} |", flush=True)
    right_ones = sum(count for (_, right), count in outcomes.items() if right)
    kinds = ", ".join(
        f"{expect} {outcomes[expect, True]}/{outcomes[expect, True] + outcomes[expect, False]}"
        for expect in dict.fromkeys(entry["expect"] for entry in entries)
    )
    print(f"\n{right_ones} of {len(entries)} files yield what they should: {kinds}")
    if right_ones < len(entries):
        sys.exit(1)


if __name__ == "__main__":
    main()
