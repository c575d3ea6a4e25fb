"""`python -m model classify train|eval`: labels for texts, learned from many examples."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from model import install
from model.checkpoint import Checkpoint
from model.config import LoRAConfig, TrainConfig
from model.engine import Engine
from model.errors import DataError, TrainingError
from model.heads import described as about
from model.heads import folder as heads
from model.heads import labels as labelled
from model.heads import training
from model.heads.described import Described
from model.heads.figures import judge, lines
from model.heads.labels import Labelled
from model.heads.reader import HeadReader
from model.heads.training import HeadConfig, Sets
from model.tokenizer import Tokenizer
from model.train import command
from model.train.command import Command
from model.train.distributed import World
from model.train.options import build
from model.train.runs import Run

CUTOFF = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassifyData:
    """Texts with labels, and how they are divided."""

    dataset: tuple[str, ...]
    dataset_dir: Path = Path("data")
    val_size: float = 0.1  #: share (below 1) or number of texts to validate on
    test_size: float = 0.2  #: share or number of texts for the figures at the end; 0: none
    max_samples: int | None = None
    cutoff_len: int = CUTOFF
    balance: bool = False  #: learn from as many texts of each label as the rarest has
    skip_malformed: bool = False
    per_device_train_batch_size: int = 8
    per_device_eval_batch_size: int = 32

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if self.cutoff_len < 1:
            raise TrainingError(f"cutoff_len must be at least 1, got {self.cutoff_len}")


CLASSES = (HeadConfig, TrainConfig, LoRAConfig, ClassifyData)
HELP = training.HELP | {
    "dataset": "texts with labels: names in dataset_info.json, or paths of .json and .jsonl files",
    "val_size": "share (below 1) or number of texts to validate on",
    "test_size": "share or number of texts that give the figures at the end and nothing else",
    "balance": "learn from as many texts of each label as the rarest has",
    "per_device_train_batch_size": "texts of a micro-batch",
    "per_device_eval_batch_size": "texts of a micro-batch in validation",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The sub-commands of `classify`."""
    commands = parser.add_subparsers(dest="classify_command", required=True, metavar="train|eval")
    train = commands.add_parser("train", help="train a classifier that answers at /classify")
    train.add_argument("--home", default=argparse.SUPPRESS, help="data folder")
    command.add_arguments(train, CLASSES, HELP)
    judged = commands.add_parser("eval", help="how good it is on other texts")
    judged.add_argument("--home", default=argparse.SUPPRESS, help="data folder")
    judged.add_argument("name", help="a trained classifier")
    judged.add_argument("--dataset", nargs="+", required=True, help="texts with labels")
    judged.add_argument("--dataset_dir", "--dataset-dir", type=Path, default=Path("data"))
    judged.add_argument("--max_samples", "--max-samples", type=int)
    judged.add_argument("--skip_malformed", "--skip-malformed", action="store_true")
    judged.add_argument("--json", action="store_true", help="the figures as one JSON object")


def run(args: argparse.Namespace, home: Path) -> int:
    """Train or evaluate; 0 done, 130 stopped and saved.

    Raises:
        ModelError: settings, data or weights that cannot be used, or a run that failed.
    """
    if args.classify_command == "eval":
        return _evaluate(args, home)
    made = Command("classify train", CLASSES, training.settle(CLASSES, "classifier", CUTOFF), _train)
    given = {name: value for name, value in command.settings(args).items() if name != "classify_command"}
    return command.run(made, args, given, home)


def _train(this: Run, values: Mapping[str, Any], home: Path, world: World) -> int:
    data = build(ClassifyData, values)
    parts: dict[str, list[Labelled]] = {}

    def read(base: Checkpoint, tokenizer: Tokenizer) -> Sets:
        del base
        texts, report = labelled.load(
            data.dataset, data.dataset_dir, max_samples=data.max_samples, skip_malformed=data.skip_malformed
        )
        names = tuple(sorted({one.label for one in texts}))
        if len(names) < 2:
            raise DataError(
                f"{', '.join(data.dataset)}: all texts have the label {names[0]!r}: two are needed"
            )
        learned, parts["test"], held = labelled.split(texts, data.test_size, data.val_size)
        if missing := sorted(set(names) - {one.label for one in learned}):
            raise DataError(f"no text with the label {missing[0]!r} is left to learn from; lower test_size")
        whole = len(learned)
        if data.balance:
            learned = labelled.balanced(learned)
            report.append(f"balanced: {len(learned)} of {whole} training texts")
        counts = Counter(one.label for one in learned)
        report.append(
            f"training {len(learned)}, validation {len(held)}, test {len(parts['test'])} texts; "
            + ", ".join(f"{label} {counts[label]}" for label in names[:20])
        )

        def rows(part: list[Labelled]) -> tuple[list[list[int]], list[int]]:
            ids = [tokenizer.encode(one.text)[: data.cutoff_len] for one in part]
            return ids, [names.index(one.label) for one in part]

        described = Described(
            kind="classifier",
            labels=names,
            base="",
            base_weights="",
            first_block=0,
            cutoff_len=data.cutoff_len,
            counts=dict(counts),
        )
        return Sets(described, len(names), rows(learned), rows(held) if held else None, report)

    def judged(path: Path, described: Described) -> Described:
        if not parts["test"]:
            return described
        figures = evaluate(path, home, parts["test"])
        for line in ("on the test texts, as it will be served:", *lines(figures)):
            this.say(line)
            sys.stderr.write(line + "\n")
        return replace(described, figures=figures)

    return training.train(this, values, home, world, read=read, judged=judged)


def evaluate(path: Path, home: Path, texts: list[Labelled]) -> dict[str, Any]:
    """Figures of an installed classifier, read as the service reads it.

    Raises:
        DataError: a label that it does not know.
        ModelError: its base is not installed, or was replaced.
    """
    described = about.describe(path)
    numbers = {label: i for i, label in enumerate(described.labels)}
    if unknown := [one for one in texts if one.label not in numbers]:
        raise DataError(
            f"{unknown[0].file}, row {unknown[0].row}: the label {unknown[0].label!r} is none of "
            f"{', '.join(described.labels[:20])}"
        )
    engine = Engine.load(install.find(described.base, home))
    reader = HeadReader(engine, heads.read(path, engine.config))
    said = reader.texts([one.text for one in texts]).softmax(1)
    return judge(said, [numbers[one.label] for one in texts], described.labels)


def _evaluate(args: argparse.Namespace, home: Path) -> int:
    path = about.path_of("classifier", args.name, home)
    dataset = [str(Path(name).resolve()) if Path(name).is_file() else name for name in args.dataset]
    texts, report = labelled.load(
        dataset, args.dataset_dir, max_samples=args.max_samples, skip_malformed=args.skip_malformed
    )
    figures = evaluate(path, home, texts)
    if args.json:
        sys.stdout.write(json.dumps(figures, ensure_ascii=False) + "\n")
    else:
        sys.stdout.write("\n".join([*report, *lines(figures)]) + "\n")
    return 0
