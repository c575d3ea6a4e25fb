"""Text out of born-digital PDFs: our parser beside pypdf, pdfium and pdfminer alone, on the same files.

    python -m benchmarks.pdf_text [--limit 5] [--rounds 3] [--engines lorebase pypdf] [FILE.pdf ...]

Files: `docs/handbook.pdf`, and of the public sets (`LOREBASE_DATA`) the documents whose text layer is meant to be
read and the FinanceBench filings. Claim: at least 10 times pypdf's speed at equal or better quality.

Speed is pages a second of this process's CPU time (every engine has one thread, and what else the machine does
does not count); engines take turns file by file. Ours includes title, outline, metadata, mended words and the check
that the text is language; OCR is off. Quality is measured against texts that are known from elsewhere, all compared
after NFKC and without white space and the bars of tables:

- passages: what FinanceBench's annotators took from a page, and the paragraphs that the handbook was made from;
  the best edit similarity of the passage with a stretch of its page (of the file, for the handbook), 0 to 1;
- guide: edit similarity of the whole Chinese guide with its text edition;
- strings: how many of the strings that the documents' manifest names stand in the text.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import re
import sys
import time
import unicodedata
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rapidfuzz import fuzz
from rapidfuzz.distance import Levenshtein

TABLE = re.compile(r"\|(?: --- \|)+|\|")
DATA = Path(os.environ.get("LOREBASE_DATA", "../shared/data"))
HANDBOOK = Path("docs/handbook.pdf")
GUIDE = "zh_maint_guide.pdf"
TIMES_PYPDF = 10
EQUAL = 0.005  #: of edit similarity: our tables name each column at once, others give heads row by row
MOST_MB = 64

Pages = list[str]
#: A text that is known, and the page that it stands on (None: anywhere).
Known = tuple[str, int | None]


def by_lorebase(file: Path) -> Pages:
    from ingest.parse import parse_file

    document = parse_file(file, max_bytes=MOST_MB << 20, ocr="off")
    return [document.text[page.char_start : page.char_end] for page in document.pages]


def by_pypdf(file: Path) -> Pages:
    from pypdf import PdfReader

    return [page.extract_text() for page in PdfReader(file).pages]


def by_pdfium(file: Path) -> Pages:
    import pypdfium2

    document = pypdfium2.PdfDocument(file)
    try:
        return [page.get_textpage().get_text_range() for page in document]
    finally:
        document.close()


def by_pdfminer(file: Path) -> Pages:
    from pdfminer.high_level import extract_text

    return extract_text(file).split("\f")


ENGINES: dict[str, Callable[[Path], Pages]] = {
    "lorebase": by_lorebase,
    "pypdf": by_pypdf,
    "pdfium": by_pdfium,
    "pdfminer": by_pdfminer,
}


def plain(text: str) -> str:
    """Without white space and the bars of tables, which no page has."""
    return "".join(unicodedata.normalize("NFKC", TABLE.sub(" ", text)).split())


def known_files() -> tuple[list[Path], dict[Path, list[Known]], dict[Path, list[str]]]:
    """The files, passages known of them, strings known of them."""
    files, passages, strings = [HANDBOOK], defaultdict(list), {}
    try:
        from examples.build_handbook import CHAPTERS

        passages[HANDBOOK] = [(text, None) for _, sections in CHAPTERS for _, text in sections]
    except ImportError:
        print("the handbook's paragraphs are left out: they need reportlab (pip install '.[test]')")
    if (manifest := DATA / "documents" / "manifest.json").is_file():
        for entry in json.loads(manifest.read_text(encoding="utf-8")):
            if entry["format"] == "pdf" and entry["expect"] == "text":
                files.append(DATA / "documents" / entry["file"])
                strings[files[-1]] = entry["must_contain"]
    if (questions := DATA / "financebench" / "questions.jsonl").is_file():
        files += sorted((DATA / "financebench").glob("*.pdf"))
        for line in questions.read_text(encoding="utf-8").splitlines():
            for found in json.loads(line)["evidence"]:
                passages[DATA / "financebench" / found["pdf"]].append((found["text"], found["page"]))
    return files, {file: list(dict.fromkeys(known)) for file, known in passages.items()}, strings


def similarity(passage: str, page: int | None, pages: Pages) -> float:
    """Best edit similarity with a stretch of the page's text, 0 to 1."""
    text = "".join(pages) if page is None else pages[page - 1] if page <= len(pages) else ""
    return fuzz.partial_ratio(plain(passage), plain(text)) / 100


def seconds_of(engine: Callable[[Path], Pages], file: Path) -> tuple[Pages, float]:
    start = time.process_time()
    pages = engine(file)
    return pages, time.process_time() - start


def interval(values: list[float]) -> str:
    """Mean and 95% interval over 2,000 draws of the passages."""
    if not values:
        return ""
    drawn = np.random.default_rng(1).choice(values, (2000, len(values))).mean(axis=1)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return f"{np.mean(values):.3f} ({low:.3f} to {high:.3f}), n = {len(values)}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="*", type=Path, help="other files: only their speed is measured")
    parser.add_argument("--limit", type=int, help="the smallest files only")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--engines", nargs="+", choices=list(ENGINES), default=list(ENGINES))
    args = parser.parse_args()
    files, passages, strings = known_files()
    files = sorted(args.files or files, key=lambda file: file.stat().st_size)[: args.limit]
    for engine in args.engines:
        ENGINES[engine](HANDBOOK)  # imports and caches
    seconds: dict[str, list[float]] = {engine: [0.0] * args.rounds for engine in args.engines}
    pages_of: dict[str, dict[Path, Pages]] = {engine: {} for engine in args.engines}
    failed: list[str] = []
    for number in range(args.rounds):
        for file in files:
            for engine in args.engines:
                try:
                    pages_of[engine][file], took = seconds_of(ENGINES[engine], file)
                    seconds[engine][number] += took
                except Exception as error:  # engines raise what they like
                    pages_of[engine][file] = []
                    failed.append(f"{engine}: {file.name}: {type(error).__name__}: {error}")
    most = {
        file: max(len(pages_of[engine][file]) for engine in args.engines if engine != "pdfminer")
        for file in files
    }
    total = sum(most.values())
    print(f"{len(files)} files, {total:,} pages, {args.rounds} rounds")
    print(
        f"{'':10}{'pages/s of CPU (range)':28}{'times pypdf':22}{'passages (95% interval)':34}{'guide':8}strings"
    )
    quality: dict[str, list[float]] = {}
    for engine in args.engines:
        rates = [total / spent for spent in seconds[engine]]
        times = [
            theirs / ours
            for ours, theirs in zip(seconds[engine], seconds.get("pypdf", seconds[engine]), strict=True)
        ]
        quality[engine] = [
            similarity(*known, pages_of[engine][f]) for f in files for known in passages.get(f, [])
        ]
        guide = DATA / "pretrain" / "zh_debian_maint_guide.txt.gz"
        alike = ""
        if read := next((pages_of[engine][file] for file in files if file.name == GUIDE), None):
            with gzip.open(guide, "rt", encoding="utf-8") as text:
                alike = f"{Levenshtein.normalized_similarity(plain(text.read()), plain(''.join(read))):.3f}"
        wanted = [(file, string) for file in files for string in strings.get(file, [])]
        there = sum(plain(string) in plain("".join(pages_of[engine][file])) for file, string in wanted)
        print(
            f"{engine:10}"
            f"{f'{np.median(rates):.1f} ({min(rates):.1f} to {max(rates):.1f})':28}"
            f"{f'{np.median(times):.1f} ({min(times):.1f} to {max(times):.1f})':22}"
            f"{interval(quality[engine]):34}{alike:8}{there}/{len(wanted)}"
        )
    for line in dict.fromkeys(failed):
        print(f"failed: {line}")
    if {"lorebase", "pypdf"} <= set(args.engines) and not args.files and args.limit is None:
        ratio = np.median(seconds["pypdf"]) / np.median(seconds["lorebase"])
        if ratio < TIMES_PYPDF or np.mean(quality["lorebase"]) < np.mean(quality["pypdf"]) - EQUAL:
            sys.exit(
                f"missed: {ratio:.1f} times pypdf's speed, wanted {TIMES_PYPDF} at equal or better quality"
            )


if __name__ == "__main__":
    main()
