"""What the reading adapter is trained on: the handwritten passages hold together, and nothing judged is in it."""

import gzip
import json
import os
from collections import Counter
from pathlib import Path

import pytest

from service.reading.rows import Asked, Passage, normal, row

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "examples" / "grounded_qa"
DATA = (ROOT / os.environ.get("LOREBASE_DATA", "../shared/data")).resolve()
pytest.importorskip("examples.grounded_qa.build", reason="the examples are not on the path")

from examples.grounded_qa import build  # noqa: E402
from examples.grounded_qa.handwritten import read_handwritten  # noqa: E402


@pytest.fixture(scope="module")
def written() -> list[Passage]:
    return read_handwritten(FOLDER / "handwritten.txt")


def test_every_handwritten_reply_quotes_its_passage(written: list[Passage]) -> None:
    assert len(written) >= 50
    rows = [row(passage) for passage in written]
    answers = Counter(q["answer"].split("\n")[0] for r in rows for q in r["questions"])
    assert answers["Yes"] > 40 < answers["No"], "one of them would be the safe guess"
    assert all(any(not asked.answerable for asked in passage.questions) for passage in written)


def test_handwritten_passages_are_not_the_sample_corpus(written: list[Passage]) -> None:
    manual = normal(" ".join(f.read_text(encoding="utf-8") for f in sorted((ROOT / "docs").glob("*.md"))))
    sentences = [
        s for passage in written for asked in passage.questions for s in asked.sentences if len(s) > 40
    ]
    assert sentences
    assert not [s for s in sentences if normal(s) in manual]


@pytest.mark.parametrize(
    ("block", "complaint"),
    [
        ("=== a | A\nOne. Two.\n---\n? q\n= x\n> Three", "0 sentences"),
        ("=== a | A\nOne. One.\n---\n? q\n= x\n> One", "2 sentences"),
        ("=== a | A\nOne.\n---\n? q\n= x", "without a sentence"),
        ("=== a | A\nOne.\n---\n? q\nOne", "neither"),
    ],
)
def test_a_slip_of_the_pen_is_named(tmp_path: Path, block: str, complaint: str) -> None:
    file = tmp_path / "h.txt"
    file.write_text(f"preface\n{block}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=complaint):
        read_handwritten(file)


@pytest.mark.skipif(not (DATA / "qa").is_dir(), reason="the data folder (LOREBASE_DATA) is not here")
def test_nothing_that_is_judged_is_trained_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "DATA", DATA)
    passages = [*build.squad(0), *build.natural(0)]
    asked = {normal(one.question) for passage in passages for one in passage.questions}
    assert len(asked) > 5000
    with gzip.open(DATA / "rgb" / "nq_noise_en_a.jsonl.gz", "rt", encoding="utf-8") as file:
        noise = [json.loads(line) for line in file]
    assert not asked & {normal(one["query"]) for one in noise}
    titles = {passage.group.removeprefix("nq ") for passage in passages}
    assert not [one["id"] for one in noise if one["positive"][0].partition(". ")[0] in titles]
    with gzip.open(DATA / "qa" / "squad_dev_a.json.gz", "rt", encoding="utf-8") as file:
        articles = json.load(file)["data"]
    assert not titles & {"squad " + article["title"].replace("_", " ") for article in articles}
    for passage in passages:
        row(passage)


def test_orders_leave_what_is_right_to_reply_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "POISONED", 5)
    text = "The tower stands in Paris. It was finished in 1889."
    clean = [
        Passage(
            f"{text} {i}", "g", "", (Asked("When?", "1889", ("It was finished in 1889.",)), Asked("Who?"))
        )
        for i in range(5)
    ]
    for poisoned in build.poisoned(clean, 0):
        row(poisoned)
        assert set(poisoned.questions) <= set(clean[0].questions)
        assert len(poisoned.text) > len(clean[0].text) + 10
