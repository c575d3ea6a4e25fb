"""Build the set that the question writer learns from; see README.md beside this file.

    python -m examples.question_writer.build [--out .lorebase/datasets/question-writer] [--home HOME] [--seed 0]

The passages and questions are those of the reading adapter (`examples.grounded_qa.build`), turned round, with
the same articles held out: what the one reads, the other writes, and neither has seen what both are judged by.
Questions without an answer are left out: nothing in their passage leads to them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from examples.grounded_qa import build as reading
from examples.grounded_qa.handwritten import read_handwritten
from ingest.settings import find_home
from service.reading.form import passage_text
from service.reading.rows import Passage, dice
from service.tuning.form import SENTENCE, SYSTEM, tidy, wanted

#: One passage of Natural Questions in so many: each brings one question, as people type them.
NATURAL = 3


def turned(passage: Passage) -> dict[str, Any] | None:
    """The passage's row in the trainer's `reading` form: answers are given, questions are learned."""
    pairs = [
        {"question": wanted(asked.answer, asked.sentences), "answer": tidy(asked.question)}
        for asked in passage.questions
        if asked.answerable
    ]
    if not pairs:
        return None
    text = passage_text(passage.heading, passage.text)
    return {"system": SYSTEM, "passage": text, "group": passage.group, "questions": pairs}


def write(out: Path, sets: dict[str, Iterable[Passage]]) -> dict[str, tuple[int, int]]:
    """Each set as a JSONL file with a dataset_info.json beside; returns passages and questions of each."""
    out.mkdir(parents=True, exist_ok=True)
    registry, counts = {}, {}
    for name, passages in sets.items():
        rows = [row for passage in passages if (row := turned(passage)) is not None]
        lines = (json.dumps(row, ensure_ascii=False) for row in rows)
        (out / f"{name}.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        registry[name] = {
            "file_name": f"{name}.jsonl",
            "formatting": "reading",
            "prompt": f"{{passage}}{SENTENCE}{{question}}",
            "group": "group",
        }
        counts[name] = len(rows), sum(len(row["questions"]) for row in rows)
    (out / "dataset_info.json").write_text(json.dumps(registry, indent=2) + "\n", encoding="utf-8")
    return counts


def passages(seed: int) -> tuple[list[Passage], list[Passage]]:
    """To train on, and held out: the same articles as for the reading adapter."""
    natural = list(reading.natural(seed))
    written = read_handwritten(Path(reading.__file__).with_name("handwritten.txt"))
    held = held_out(natural, written, seed)
    some = [p for p in natural if dice(seed, "some", p.text).random() < 1 / NATURAL]
    found = [*reading.squad(seed), *some, *written]
    return [p for p in found if p.group not in held], [p for p in found if p.group in held]


def held_out(natural: Sequence[Passage], written: Sequence[Passage], seed: int) -> set[str]:
    """Groups of which nothing is trained on, chosen as `examples.grounded_qa.build` chooses them."""
    groups = sorted({p.group for p in natural})
    held = {f"squad {title}" for title in reading.VALIDATION_ARTICLES}
    held |= set(dice(seed, "held").sample(groups, len(groups) // reading.VALIDATION_TITLES))
    return held | {p.group for p in written[:: reading.VALIDATION_HANDWRITTEN]}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="default: datasets/question-writer in the data folder")
    parser.add_argument("--home", type=Path, help="data folder; default: the one in use")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if not (reading.DATA / "qa").is_dir():
        sys.exit(f"no data in {reading.DATA}: set LOREBASE_DATA")
    out = args.out or (args.home or find_home()) / "datasets" / "question-writer"
    train, held = passages(args.seed)
    for name, (rows, questions) in write(out, {"writing": train, "writing_val": held}).items():
        print(f"{out / name}.jsonl: {rows} passages, {questions} questions")


if __name__ == "__main__":
    main()
