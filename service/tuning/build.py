"""The whole way from a collection to an adapter: plan, pairs, sets, training, and what it was trained on.

Every stage can be stopped and begun again: pairs are kept passage by passage, the training run resumes from
its last checkpoint, and the adapter's name hangs on its recipe and its rows, so what is done is found done.

    LOREBASE_HOME/tuning/COLLECTION/
      pairs.jsonl        every passage that was worked on, with the questions kept and rejected
      closed_book.jsonl, held_out.jsonl, reading.jsonl, reading_val.jsonl    see `tuning.sets`
      tune.json          what was made, in figures
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from model import shelf
from model.errors import UnknownModel
from service.deps import Parts
from service.errors import InvalidRequest, ServiceError
from service.generators import Generator, PassageReader, Reads, Scores
from service.generators.own import READING
from service.models import OLLAMA
from service.tuning import sets, trained_on
from service.tuning.check import Checker
from service.tuning.compile import LAPS, Compiler, totals
from service.tuning.pairs import Done, Pairs
from service.tuning.passages import Collected, collect
from service.tuning.train import Recipe, Train, steps_for, train
from service.tuning.writer import WRITING, OwnWriter, Teacher, Writes

#: What a passage and a step of training take on two processor cores, where nothing has been measured yet.
SECONDS_PER_PASSAGE, SECONDS_PER_STEP = 8.0, 1.5
#: Pairs that a passage gives each time: 1.4 on a folder of mixed files.
PAIRS_PER_PASSAGE = 1.4
#: Fewer pairs than this teach nothing, and compare nothing.
LEAST_PAIRS = 8
KIND = "closed-book"

Tell = Callable[[str], None]
TellPassage = Callable[[Done, bool], None]


class NothingToTune(ServiceError):
    """The collection has no passage to ask about, or gave too few questions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the user wants."""

    collection: str
    base: str  #: the own model, without an adapter
    teacher: str | None = None  #: ollama/NAME; None: our own question writer
    max_pairs: int = 400
    steps: int | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """What there is to do."""

    wanted: Wanted
    folder: Path
    collected: Collected
    pairs: Pairs

    @property
    def passages(self) -> int:
        """How often a passage will be worked on, as far as can be foreseen; each may be more than once."""
        return min(LAPS * len(self.collected.passages), round(self.wanted.max_pairs / PAIRS_PER_PASSAGE))

    @property
    def seconds(self) -> float:
        """How long it takes from an empty start, roughly: pairs and training, not the comparison."""
        pairs = min(self.wanted.max_pairs, round(self.passages * PAIRS_PER_PASSAGE))
        steps = self.wanted.steps or steps_for(pairs)
        return self.passages * (self.pairs.pace() or SECONDS_PER_PASSAGE) + steps * SECONDS_PER_STEP


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """What was made."""

    adapter: str
    folder: Path
    figures: dict[str, Any] = field(default_factory=dict)

    @property
    def held_out(self) -> Path:
        """The questions of the comparison."""
        return self.folder / f"{sets.HELD_OUT}.jsonl"


def plan(parts: Parts, wanted: Wanted) -> Plan:
    """What there is to do; loads no model.

    Raises:
        UnknownCollection, InvalidRequest: no such collection, or a teacher that cannot be one.
        NothingToTune: nothing in it can be asked about.
        PairsUnwritable: the folder cannot be written to.
    """
    if wanted.teacher is not None and not wanted.teacher.startswith(OLLAMA):
        raise InvalidRequest(f"--teacher should be ollama/NAME, got {wanted.teacher!r}")
    collected = collect(parts.library, wanted.collection, cjk=wanted.teacher is not None, seed=wanted.seed)
    if not collected.passages:
        reasons = (
            ", ".join(f"{count} {reason}" for reason, count in collected.skipped.items()) or "it is empty"
        )
        raise NothingToTune(
            f"the collection {wanted.collection!r} has no passage to write questions on ({reasons}). "
            "A teacher writes other languages than English: --teacher ollama/NAME"
        )
    folder = parts.home / "tuning" / wanted.collection
    return Plan(wanted, folder, collected, Pairs.open(folder / "pairs.jsonl"))


def ready(parts: Parts, wanted: Wanted) -> None:
    """Whether the adapters that write and read are installed; loads nothing.

    Raises:
        InvalidRequest: one of them is not.
    """
    there = {adapter.name for adapter in parts.models.list_adapters()}
    missing = [name for name in (READING, *(() if wanted.teacher else (WRITING,))) if name not in there]
    if missing:
        raise InvalidRequest(f"it needs the adapter {' and '.join(missing)}, which is not installed")


def compiler(parts: Parts, made: Plan) -> Compiler:
    """Writer, reader and search of the plan, loaded.

    Raises:
        InvalidRequest: an adapter or the collection is missing.
        ModelError, WeightsMissing: a model cannot be loaded.
    """
    wanted = made.wanted
    return Compiler(
        writer(parts, wanted),
        Checker(reader(parts, wanted.base), search(parts, wanted.collection), parts.settings.k),
        made.pairs,
        {"adapters": _speaking(parts.home)},
        wanted.seed,
    )


def build(
    made: Plan,
    compiler: Compiler,
    home: Path,
    *,
    training: Train = train,
    say: Tell = lambda _: None,
    told: TellPassage = lambda _, __: None,
) -> Built:
    """Pairs, sets and the adapter.

    Args:
        made: by `plan`.
        compiler: what makes pairs.
        home: the data folder.
        training: trains by a recipe; replaced by tests.
        say: a line of progress.
        told: called for every passage.

    Raises:
        ServiceError, IngestError, ModelError: what is missing or failed, and what to do.
        KeyboardInterrupt: stopped; the same call goes on.
    """
    wanted, folder = made.wanted, made.folder
    done = compiler.run(made.collected.passages, wanted.max_pairs, threading.Event(), told)
    figures: dict[str, Any] = totals(done)
    figures["skipped"] = dict(made.collected.skipped)
    kept, written = figures["kept"], figures["written"]
    say(
        f"{kept} of {written} questions kept, {figures['rejected_share']:.0%} rejected, on {len(done)} "
        f"passages; writing took {figures['write_s']:.0f} s, checking {figures['check_s']:.0f} s"
    )
    if kept < LEAST_PAIRS:
        raise NothingToTune(
            f"only {kept} questions of {written} were answered back: too few to train on. "
            f"What was rejected, and why, stands in {made.pairs.file}"
        )
    held = sets.split(made.collected.passages, done, wanted.seed)
    counts = sets.write(folder, made.collected.passages, done, held, wanted.seed)
    figures |= {"rows": counts, "split_by": "document" if held.by_document else "passage"}
    recipe = Recipe(
        base=wanted.base,
        dataset=sets.CLOSED_BOOK,
        folder=folder,
        steps=wanted.steps or steps_for(counts[sets.CLOSED_BOOK]),
        seed=wanted.seed,
    )
    name = recipe.name(KIND, wanted.collection)
    begun = time.perf_counter()
    target = home / "adapters" / name
    if target.is_dir():
        say(f"{name} has been trained on these {counts[sets.CLOSED_BOOK]} pairs before")
    else:
        say(f"training {name} on {counts[sets.CLOSED_BOOK]} pairs, {recipe.steps} steps")
        training(recipe, name, home)
        figures["train_s"] = round(time.perf_counter() - begun, 1)
    used = {one.document_id for one in done if one.pairs and one.key not in held.held}
    sources = [d for d in made.collected.documents if d.document_id in used]
    # Also where it had been trained before: the rows are the same, whatever else changed in the documents.
    trained_on.of(sources, wanted.collection, KIND).write(target)
    figures |= {"adapter": name, "base": wanted.base, "steps": recipe.steps, "documents": len(sources)}
    figures |= {"collection": wanted.collection, "writer": compiler.writer.name, "seed": wanted.seed}
    write_figures(folder, figures)
    return Built(adapter=name, folder=folder, figures=figures)


def _speaking(home: Path) -> dict[str, str]:
    """Hashes of the adapters that write and read: another one of that name gives other pairs."""
    return {name: digest for name, digest in shelf.hashes(home).items() if name in (WRITING, READING)}


def write_figures(folder: Path, figures: dict[str, Any]) -> None:
    """`tune.json`, replaced as a whole."""
    draft = folder / ".tune.json.new"
    draft.write_text(json.dumps(figures, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    draft.replace(folder / "tune.json")


def writer(parts: Parts, wanted: Wanted) -> Writes:
    """Who writes the questions.

    Raises:
        InvalidRequest: neither the writing adapter nor a teacher is there.
    """
    if wanted.teacher is not None:
        return Teacher(parts.models.choose(wanted.teacher).get())
    try:
        found = parts.models.choose(f"{wanted.base}+{WRITING}").get()
    except UnknownModel as error:
        raise InvalidRequest(
            f"nobody is here to write questions: {error} Name a teacher: --teacher ollama/NAME"
        ) from error
    if not isinstance(found, Scores):
        raise InvalidRequest(
            f"{found.name} does not run in our own engine; name a teacher: --teacher ollama/NAME"
        )
    return OwnWriter(found.engine)


def reader(parts: Parts, base: str) -> PassageReader:
    """Who answers the questions back.

    Raises:
        InvalidRequest: the reading adapter is not installed, or does not fit the model.
    """
    found: Generator = parts.models.choose(base).get()
    reading = found.reader if isinstance(found, Reads) else None
    if reading is None:
        raise InvalidRequest(
            f"{base} has no reading adapter, so nobody can answer the questions back. `python -m model list` "
            "shows the adapters that are installed"
        )
    return reading


def search(parts: Parts, collection: str) -> Any:
    """The collection's search. Raises InvalidRequest where nothing has been ingested."""
    found = parts.library.source(collection).search
    if found is None:
        raise InvalidRequest(
            f"the collection {collection!r} is empty; ingest documents first: python -m ingest ./docs"
        )
    return found
