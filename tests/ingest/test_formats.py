"""The table of formats: every suffix has a file that a program of that format wrote, with a fact in its place.

`samples/formats/make.py` says how the files were written.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ingest.parse import FORMATS, parse_file
from tests.ingest.test_parse_manifest import check_laws

FOLDER = Path(__file__).parent / "samples" / "formats"
FACTS: dict[str, dict[str, Any]] = json.loads((FOLDER / "facts.json").read_text(encoding="utf-8"))
MOST = 1 << 30


def test_table_files_and_facts_name_the_same() -> None:
    """A new row needs a file; a file without a row is a promise that was taken back."""
    suffixes = {suffix for row in FORMATS for suffix in row.suffixes}
    assert suffixes == set(FACTS)
    assert {fact["file"] for fact in FACTS.values()} == {
        file.name for file in FOLDER.iterdir() if file.is_file()
    } - {"facts.json", "make.py"}
    assert all(Path(fact["file"]).suffix == suffix and fact["written_by"] for suffix, fact in FACTS.items())


@pytest.mark.parametrize("suffix", sorted(FACTS))
def test_a_fact_is_found_in_its_place(suffix: str) -> None:
    fact = FACTS[suffix]
    document = parse_file(FOLDER / fact["file"], max_bytes=MOST)
    check_laws(document)
    (row,) = [row for row in FORMATS if suffix in row.suffixes]
    assert document.parser == row.recipe
    assert not [warning for warning in document.warnings if "read as" in warning]
    at = document.text.find(fact["fact"])
    assert at >= 0, document.text
    (section,) = [s for s in document.sections if s.char_start <= at < s.char_end]
    assert fact["heading"] == (section.heading_path[-1] if section.heading_path else "")
    pages = [page.number for page in document.pages if page.char_start <= at < page.char_end]
    assert pages == ([fact["page"]] if fact["page"] else [])
