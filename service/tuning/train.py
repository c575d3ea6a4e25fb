"""The training run of an adapter: `python -m model sft` in a process of its own, resumed if stopped."""

from __future__ import annotations

import hashlib
import math
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from model.train import runs
from service.errors import ServiceError
from service.evaluation.replies import setup_of

#: Passes through the pairs where no number of steps is given, and the fewest steps.
EPOCHS, LEAST_STEPS = 8, 40
#: Rows of a micro-batch.
BATCH = 8
#: Characters of a collection's name that an adapter's name keeps.
NAME_LENGTH = 40


class TuningFailed(ServiceError):
    """The training run did not finish; names its log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What is trained, and how."""

    base: str
    dataset: str
    folder: Path  #: with dataset_info.json
    steps: int
    seed: int = 0
    batch: int = BATCH
    rank: int = 8
    learning_rate: float = 1e-3

    def settings(self) -> list[str]:
        """The flags of `sft`."""
        return [
            *("--model", self.base, "--dataset", self.dataset, "--dataset_dir", str(self.folder)),
            *("--max_steps", str(self.steps), "--seed", str(self.seed)),
            *("--per_device_train_batch_size", str(self.batch), "--learning_rate", str(self.learning_rate)),
            *("--lora_rank", str(self.rank), "--lora_alpha", str(2 * self.rank), "--save_steps", "25"),
        ]

    def name(self, kind: str, collection: str) -> str:
        """A name that the same recipe on the same rows has again, and no other."""
        rows = (self.folder / f"{self.dataset}.jsonl").read_bytes()
        decides = {key: value for key, value in asdict(self).items() if key != "folder"}
        digest = setup_of(rows=hashlib.sha256(rows).hexdigest(), **decides)
        readable = re.sub(r"[^A-Za-z0-9._-]+", "-", collection).strip("-.")[:NAME_LENGTH]
        if readable != collection:  # other scripts, or cut: told apart by a hash
            readable += "-" * bool(readable) + hashlib.sha256(collection.encode()).hexdigest()[:6]
        return f"{kind}-{readable}-{digest[:6]}"


#: Trains by a recipe and leaves the adapter of that name in the data folder.
Train = Callable[[Recipe, str, Path], None]


def steps_for(pairs: int) -> int:
    """Steps that pass through the pairs `EPOCHS` times."""
    return max(LEAST_STEPS, math.ceil(EPOCHS * pairs / BATCH))


def train(recipe: Recipe, name: str, home: Path) -> None:
    """Train in a process of its own, whose progress is shown; Ctrl-C lets it save first.

    Raises:
        TuningFailed: it ended without an adapter.
        KeyboardInterrupt: it was interrupted, and has saved.
    """
    command = [sys.executable, "-m", "model", "sft", "--home", str(home)]
    begun = (home / "runs" / name / "checkpoints").is_dir()
    command += ["--resume", name] if begun else ["--name", name, *recipe.settings()]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        code = process.wait()
    except KeyboardInterrupt:  # it heard the same Ctrl-C, and saves
        process.wait()
        raise
    if code == 130:
        raise KeyboardInterrupt
    if code != 0:
        log = runs.Run(home / "runs" / name).log_file
        raise TuningFailed(
            f"training {name} ended with status {code}; what it said stands above and in {log}. The same "
            "command tries again from where it was"
        )
