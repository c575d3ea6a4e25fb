"""From passages to pairs, sets and an adapter: what is kept, what is held out, and what a second run does."""

from __future__ import annotations

import json
import random
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.train import runs
from service.errors import InvalidRequest
from service.evaluation.questions import read_questions
from service.prompt import SYSTEM_CLOSED_BOOK
from service.reading.form import NOT_HERE, parse_reply, render_reply
from service.tuning import sets
from service.tuning.build import NothingToTune, build
from service.tuning.pairs import Done, Pair, Pairs, PairsUnwritable
from service.tuning.passages import OTHER_LANGUAGE, REPEATED, TOO_SHORT, collect, unfit
from service.tuning.spans import Span, spans
from service.tuning.train import Recipe
from service.tuning.verdict import verdict
from tests.service.fakes import MemoryLibrary
from tests.service.tuning import Desk, Trainer, compiler, honest, planned, rows, texts


def test_only_questions_that_are_answered_back_are_kept(tmp_path: Path) -> None:
    def judged(span: Span) -> str | None:
        if span.kind == "number":
            return None
        return "something else" if span.kind == "name" else honest(span)

    library = MemoryLibrary(texts())
    made = planned(tmp_path, library)
    desk = Desk(judged)
    done = compiler(made, desk, library).run(made.collected.passages, 10_000, _never())
    kept = [pair for one in done for pair in one.pairs]
    rejected = Counter(r.reason for one in done for r in one.rejected)
    assert kept and {pair.kind for pair in kept} <= {"phrase", "sentence"}
    assert rejected["refused"] and rejected["other answer"]
    assert {r.said for one in done for r in one.rejected if r.reason == "other answer"} == {"something else"}
    assert len(kept) + rejected.total() == sum(one.written for one in done) >= len(desk.asked)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda q: "", "no question"),
        (lambda q: "Why is it so!", "no question"),
        (lambda q: q.replace("What completes this", "Where is the Paris bridge"), None),
    ],
)
def test_what_is_no_question_or_leads_elsewhere_is_not_kept(
    tmp_path: Path, spoil: object, reason: str | None
) -> None:
    library = MemoryLibrary(texts())
    made = planned(tmp_path, library)
    done = compiler(made, Desk(spoil=spoil), library).run(made.collected.passages, 10_000, _never())  # type: ignore[arg-type]
    seen = Counter(r.reason for one in done for r in one.rejected)
    if reason is None:
        assert sum(len(one.pairs) for one in done) > 10
    else:
        assert not any(one.pairs for one in done) and set(seen) <= {reason, "asked before"} and seen[reason]  # type: ignore[index]


def test_a_question_that_does_not_lead_to_its_passage_is_not_kept(tmp_path: Path) -> None:
    library = MemoryLibrary(texts())
    made = planned(tmp_path, library)
    desk = Desk(spoil=lambda _: "What do people say about xylophones and quartz?")
    done = compiler(made, desk, library).run(made.collected.passages, 10_000, _never())
    # Nothing matches, so the search's five are the same for all.
    lost = [one for one in done if any(r.reason == "not found" for r in one.rejected)]
    assert len(lost) == len(done) - 5 and not any(one.pairs for one in lost)


def test_a_question_that_holds_its_answer_is_not_kept(tmp_path: Path) -> None:
    library = MemoryLibrary({"a.md": texts(1, 1)["doc0.md"], "b.md": texts(2, 1)["doc1.md"]})
    made = planned(tmp_path, library)
    desk = Desk()
    desk.spoil = lambda question: question.rstrip("?") + " 11 1850 Anna Meyer Paris Oslo 111 1860 Okafor?"
    done = compiler(made, desk, library).run(made.collected.passages, 100, _never())
    numbers = [
        r for one in done for r in one.rejected if r.wanted.split()[0] in {"11", "1850", "111", "1860"}
    ]
    assert numbers and {r.reason for r in numbers} == {"gives it away"}


def test_a_stopped_run_goes_on_to_the_same_end(tmp_path: Path) -> None:
    library = MemoryLibrary(texts())
    whole, parted = planned(tmp_path / "whole", library), planned(tmp_path / "parted", library)
    desk = Desk()
    wanted = compiler(whole, desk, library).run(whole.collected.passages, 10_000, _never())
    first = Desk(interrupt_at=4)
    with pytest.raises(KeyboardInterrupt):
        compiler(parted, first, library).run(parted.collected.passages, 10_000, _never())
    with parted.pairs.file.open("a", encoding="utf-8") as file:
        file.write('{"key": "torn in the mid')
    again = planned(tmp_path / "parted", library)
    second = Desk()
    told: list[bool] = []
    got = compiler(again, second, library).run(
        again.collected.passages, 10_000, _never(), lambda _, known: told.append(known)
    )
    assert [(one.key, one.pairs, one.rejected) for one in got] == [
        (one.key, one.pairs, one.rejected) for one in wanted
    ]
    assert first.worked + second.worked == desk.worked and len(first.worked) == 4
    assert told == [True] * 4 + [False] * (len(desk.worked) - 4)


def test_a_document_that_has_moved_takes_its_questions_along(tmp_path: Path) -> None:
    library = MemoryLibrary(texts())
    before = planned(tmp_path, library)
    done = compiler(before, Desk(), library).run(before.collected.passages, 10_000, _never())
    shelf = library.shelves["default"]
    for path in list(shelf):
        shelf[f"old/{path}"] = shelf.pop(path)
    after = planned(tmp_path, library)
    desk = Desk()
    again = compiler(after, desk, library).run(after.collected.passages, 10_000, _never())
    assert desk.worked == [] and [one.pairs for one in again] == [one.pairs for one in done]
    where = {(p.hit.document_id, p.hit.position): p.hit.path for p in after.collected.passages}
    assert all(where[one.document_id, one.position] == one.path for one in again)
    assert all(one.path.startswith("old/") for one in again)


def test_passages_that_give_too_few_are_gone_over_again_for_other_words(tmp_path: Path) -> None:
    many = " ".join(
        f"The {name} lamp cost {90 + n} dollars." for n, name in enumerate(["Aba", "Bek", "Cid", "Dov"])
    )
    library = MemoryLibrary({"a.md": f"{many} {many.replace('lamp', 'desk').replace('9', '4')}\n"})
    made, desk = planned(tmp_path, library), Desk()
    [done] = compiler(made, desk, library).run(made.collected.passages, 10_000, _never())
    assert len(desk.worked) == 2
    laps = {one.lap: one.asked_for for one in _done(made.pairs)}
    assert laps[1] and laps[2] and not laps[1] & laps[2]
    assert done.asked_for == laps[1] | laps[2] and done.written == sum(o.written for o in _done(made.pairs))
    few = Desk()
    compiler(planned(tmp_path / "few", library), few, library).run(made.collected.passages, 1, _never())
    assert len(few.worked) == 1


def test_other_settings_begin_anew_and_a_foreign_file_is_refused(tmp_path: Path) -> None:
    library = MemoryLibrary(texts(2, 1))
    made = planned(tmp_path, library)
    compiler(made, Desk(), library).run(made.collected.passages, 100, _never())
    other = Desk(name="another writer")
    compiler(planned(tmp_path, library), other, library).run(made.collected.passages, 100, _never())
    assert len({*other.worked}) == len(made.collected.passages)
    made.pairs.file.write_text('{"something": "else"}\n')
    with pytest.raises(PairsUnwritable, match="line 1"):
        planned(tmp_path, library)


def test_from_a_collection_to_an_adapter_and_not_twice(tmp_path: Path) -> None:
    library, trainer, said = MemoryLibrary(texts()), Trainer(), list[str]()
    made = planned(tmp_path, library)
    built = build(made, compiler(made, Desk(), library), tmp_path, training=trainer, say=said.append)
    [(recipe, name)] = trainer.trained
    assert built.adapter == name and runs.NAME.fullmatch(name) and name.startswith("closed-book-default-")
    train, held = list(rows(built.folder / "closed_book.jsonl")), read_questions(built.held_out)
    assert recipe.steps == max(40, -(-8 * len(train) // 8))
    assert all([m["role"] for m in r["messages"]] == ["system", "user", "assistant"] for r in train)  # type: ignore[attr-defined]
    assert {r["messages"][0]["content"] for r in train} == {SYSTEM_CLOSED_BOOK}  # type: ignore[index]
    # Documents, not passages, are split: none is on both sides, and only those trained on are noted down.
    asked = {r["messages"][1]["content"] for r in train}  # type: ignore[index]
    where = {p.question: d.path for d in _done(made.pairs) for p in d.pairs}
    trained, kept_back = {where[q] for q in asked}, {q.source for q in held}
    assert trained and kept_back and not trained & kept_back
    noted = json.loads((tmp_path / "adapters" / name / "trained_on.json").read_text())
    assert {d["path"] for d in noted["documents"]} == trained and noted["collection"] == "default"
    assert any("rejected" in line for line in said)
    # The same again trains nothing; another seed is another recipe.
    again = planned(tmp_path, library)
    assert build(again, compiler(again, Desk(), library), tmp_path, training=trainer).adapter == name
    assert len(trainer.trained) == 1
    figures = json.loads((built.folder / "tune.json").read_text())
    assert figures["kept"] == len(train) + len(held) and figures["split_by"] == "document"
    seeded = planned(tmp_path, library, seed=1)
    assert build(seeded, compiler(seeded, Desk(), library), tmp_path, training=trainer).adapter != name


def test_the_reading_rows_answer_refuse_and_quote(tmp_path: Path) -> None:
    library = MemoryLibrary(texts())
    made = planned(tmp_path, library)
    built = build(made, compiler(made, Desk(), library), tmp_path, training=Trainer())
    told = [row for name in ("reading", "reading_val") for row in rows(built.folder / f"{name}.jsonl")]
    replies = [(row["passage"], q["answer"]) for row in told for q in row["questions"]]  # type: ignore[attr-defined]
    refusals = [reply for _, reply in replies if reply == NOT_HERE]
    assert refusals and len(refusals) < len(replies) / 2
    for passage, reply in replies:
        reading = parse_reply(reply)
        assert reading.refused or (reading.sentences and all(s in str(passage) for s in reading.sentences))


def test_too_little_to_train_on_is_said(tmp_path: Path) -> None:
    library = MemoryLibrary(texts())
    made = planned(tmp_path, library)
    trainer = Trainer()
    with pytest.raises(NothingToTune, match="answered back"):
        build(made, compiler(made, Desk(lambda _: None), library), tmp_path, training=trainer)
    assert not trainer.trained
    with pytest.raises(NothingToTune, match="2 in a language"):
        planned(
            tmp_path,
            MemoryLibrary(
                {
                    "a.md": "这座桥建于一八五〇年，全长三百三十米，横跨内雷特瓦河。\n\n大桥由一位工程师设计，历时九年建成通车。"
                }
            ),
        )
    with pytest.raises(InvalidRequest, match="ollama/NAME"):
        planned(tmp_path, library, teacher="gpt")


def test_passages_that_cannot_be_asked_about_are_counted(tmp_path: Path) -> None:
    chinese = "这座桥建于一八五〇年，全长三百三十米，横跨内雷特瓦河，由一位著名的工程师设计。\n"
    lorem = "Lorem ipsum dolor sit amet consectetuer adipiscing elit sed diam nonummy nibh euismod tincidunt laoreet.\n"
    copied = texts(1, 1)["doc0.md"]
    library = MemoryLibrary(
        {"zh.md": chinese, "lorem.md": lorem, "a.md": copied, "b.md": copied, "short.md": "Two words.\n"}
    )
    found = collect(library, "default", cjk=False)
    assert found.skipped == {OTHER_LANGUAGE: 2, REPEATED: 1, TOO_SHORT: 1} and len(found.passages) == 1
    with_teacher = collect(library, "default", cjk=True)
    assert {p.hit.path for p in with_teacher.passages} == {"zh.md", "lorem.md", "a.md"}
    assert unfit("The word is in the text, and the text is about as long as it has to be.", cjk=False) is None


def test_documents_that_share_a_passage_stay_on_one_side() -> None:
    made = texts(4, 2)
    made["copy.md"] = made["doc0.md"].split("\n\n")[0] + "\n\n" + texts(8, 1)["doc7.md"]
    passages = collect(MemoryLibrary(made), "default", cjk=False).passages
    family = {p.hit.path: p.family for p in passages}
    assert family["copy.md"] == family["doc0.md"] and len(set(family.values())) == 4


@given(
    st.dictionaries(st.text("abcdef", min_size=1, max_size=4), st.integers(1, 60), min_size=2, max_size=12),
    st.integers(0, 5),
)
def test_the_split_holds_out_whole_documents_whatever_their_order(sizes: dict[str, int], seed: int) -> None:
    library = MemoryLibrary({f"{name}.md": texts(1, 1)["doc0.md"].replace("Paris", name) for name in sizes})
    passages = collect(library, "default", cjk=False).passages
    done = [
        Done(
            key=p.key, setup="s", document_id=p.hit.document_id, path=p.hit.path, position=0,
            pairs=tuple(Pair(question=f"{n}?", answer="a", sentences=("a",), kind="name") for n in range(sizes[p.hit.path[:-3]])),
        )
        for p in passages
    ]  # fmt: skip
    found = sets.split(passages, done, seed)
    total = sum(sizes.values())
    held = sum(len(d.pairs) for d in done if d.key in found.held)
    assert found.by_document and 0 < held < total
    assert held <= sets.MOST_HELD * total or len(found.held) == 1
    shuffled = random.Random(seed).sample(done, len(done))
    assert sets.split(passages, shuffled, seed).held == found.held


def test_a_single_document_is_split_by_passage(tmp_path: Path) -> None:
    library = MemoryLibrary({"only.md": texts(1, 12)["doc0.md"]})
    made = planned(tmp_path, library)
    built = build(made, compiler(made, Desk(), library), tmp_path, training=Trainer())
    assert built.figures["split_by"] == "passage" and built.held_out.stat().st_size


@given(
    st.text(st.sampled_from("aeE tT.,!?\n\"“”《》`0129年元的是在年，。$%-'of "), max_size=400),
    st.integers(0, 3),
)
def test_a_span_stands_in_its_sentences_and_is_a_reply(text: str, seed: int) -> None:
    for span in spans(text, random.Random(seed)):
        reading = parse_reply(render_reply(span.answer, span.sentences))
        assert reading.sentences and all(sentence in text for sentence in span.sentences)
        if span.answer is not None:
            assert span.answer in text and reading.answer == " ".join(span.answer.split("\n"))
        else:
            assert reading.answer is None and len(span.sentences) == 1


def test_spans_are_what_people_look_up() -> None:
    text = (
        "The Golden Gate Bridge opened on May 27, 1937 at a cost of $35 million. It was designed by Joseph Strauss.\n\n"
        "长江大桥全长1670米，1957年10月15日通车，《桥梁》杂志称它为奇迹。"
    )
    found = {span.answer for seed in range(20) for span in spans(text, random.Random(seed))}
    assert {
        "May 27, 1937",
        "$35 million",
        "Joseph Strauss",
        "The Golden Gate Bridge",
        "1957年10月15日",
        "《桥梁》",
    } <= found


def test_an_adapter_is_named_after_its_recipe_and_its_rows(tmp_path: Path) -> None:
    (tmp_path / "closed_book.jsonl").write_text("{}\n")
    recipe = Recipe(base="b", dataset="closed_book", folder=tmp_path, steps=5)
    name = recipe.name("closed-book", "合同 2026")
    assert runs.NAME.fullmatch(name) and recipe.name("closed-book", "合同 2027") != name
    assert replace(recipe, steps=6).name("closed-book", "合同 2026") != name
    (tmp_path / "closed_book.jsonl").write_text("{}\n{}\n")
    assert recipe.name("closed-book", "合同 2026") != name


def test_the_verdict_says_what_won_and_what_may_be_chance() -> None:
    def mode(name: str, right: float) -> dict[str, object]:
        return {"name": name, "figures": {"right": {"mean": right}}}

    def against(name: str, other: str, low: float, mean: float, high: float) -> dict[str, object]:
        return {
            "mode": name,
            "against": other,
            "figures": {"right": {"low": low, "mean": mean, "high": high}},
        }

    report = {
        "modes": [mode("base", 0.02), mode("finetuned", 0.04), mode("grounded", 0.7), mode("best-sentence", 0.9)],
        "questions": {"asked": 50},
        "comparisons": [against("finetuned", "base", -0.04, 0.02, 0.08), against("grounded", "best-sentence", 0.1, 0.2, 0.3)],
    }  # fmt: skip
    said = verdict(report)
    assert said[0].endswith(
        "70% right, the most of all models, but fewer than best-sentence, which needs none."
    )
    ranked = [("base", 0.5), ("rag", 0.5), ("best-sentence", 0.4)]
    assert verdict(report | {"modes": [mode(*one) for one in ranked]})[0].endswith("right, as many as rag.")
    assert verdict(report | {"modes": [mode(*one) for one in ranked[1:]]})[0].endswith(
        "more than any other way."
    )
    assert any("may be chance" in line and "2" in line for line in said)
    assert any("does not know the others" in line for line in said)
    assert not any("which may be chance" in line for line in said if "quoting" in line)
    assert verdict({"modes": [], "questions": {"asked": 0}, "comparisons": []}) == []


def _never() -> threading.Event:
    return threading.Event()


def _done(pairs: Pairs) -> list[Done]:
    return list(Pairs.open(pairs.file)._known.values())
