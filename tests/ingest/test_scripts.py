"""In which scripts texts are written, and that documents can be asked for by it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ingest.collections import open_collection
from ingest.filters import Condition
from ingest.pipeline import ingest_path
from ingest.scripts import script, scripts
from ingest.search import Searcher
from ingest.settings import IngestSettings
from tests.fakes import HashEmbedder

ENGLISH, CHINESE = "The tower is six hundred metres tall. ", "广州塔高六百米，二〇一〇年建成。"


@pytest.mark.parametrize(
    ("text", "main", "every"),
    [
        (ENGLISH, "LATIN", ("LATIN",)),
        (CHINESE, "CJK", ("CJK",)),
        ("これは塔です。とても高い。", "CJK", ("CJK",)),
        ("Башня очень высокая.", "CYRILLIC", ("CYRILLIC",)),
        ("12 345, 6.7 %", "", ()),
        ("", "", ()),
        ("安装 PyTorch 2.13，然后运行程序。", "CJK", ("CJK",)),
        (ENGLISH * 200 + CHINESE, "LATIN", ("LATIN",)),
        (ENGLISH * 3 + CHINESE * 6 * 40, "LATIN", ("CJK",)),
        (ENGLISH * 100 + CHINESE * 100, "LATIN", ("CJK", "LATIN")),
    ],
)
def test_scripts(text: str, main: str, every: tuple[str, ...]) -> None:
    if main != "LATIN" or every == ("LATIN",):
        assert script(text) == main
    assert scripts(text) == every


def test_a_document_is_found_by_its_script(tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    for name, text in (
        ("en", ENGLISH),
        ("zh", CHINESE),
        ("both", ENGLISH * 20 + CHINESE * 20),
        ("no", "1 2"),
    ):
        (tmp_path / "texts" / f"{name}.txt").write_text(text, encoding="utf-8")
    embedder, settings = HashEmbedder(), IngestSettings()
    with open_collection(tmp_path, "mixed", create=True) as store:
        ingest_path([tmp_path / "texts"], store, embedder, settings)
        for wanted, names in (("cjk", {"zh", "both"}), ("latin", {"en", "both"}), ("cyrillic", set())):
            where = Condition("script", "=", wanted)
            assert {Path(d.path).stem for d in store.documents(where)} == names
            found = Searcher(store, embedder).search("塔 tower", 9, "hybrid", where)
            assert {Path(h.path).stem for h in found.hits} == names
        assert not store.verify().problems
