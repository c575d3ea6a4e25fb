"""`python -m service tune`: questions on the user's own documents, an adapter trained on them, a comparison.

Says what there is to do and about how long it takes, then what each stage took. Stopped at any point, the
same command goes on.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from model import merge_command
from service.app import assemble
from service.cli import arguments, evaluate, progress
from service.deps import Parts
from service.errors import InvalidRequest
from service.models import OLLAMA
from service.settings import ServiceSettings
from service.tuning import build as tuning
from service.tuning.build import LEAST_PAIRS, Built, Plan, Wanted
from service.tuning.train import Train, train
from service.tuning.verdict import verdict

MODES = "base,finetuned,rag,rag+finetuned,grounded"


def execute(given: argparse.Namespace, settings: ServiceSettings, home: Path) -> int:
    """The command over the data folder; see `run`."""
    name = evaluate.embedder_name()
    return run(given, assemble(settings, home), lambda: evaluate.embedding(name, home))


def run(
    given: argparse.Namespace,
    parts: Parts,
    embed: Callable[[], evaluate.Embedding],
    training: Train = train,
) -> int:
    """Compile, train, compare; returns the exit status: 0 done, 1 the comparison lacks something.

    Raises:
        ServiceError, IngestError, ModelError: what is missing or failed, with what to do.
        KeyboardInterrupt: stopped; the same command goes on.
    """
    for flag, least in (("max_pairs", LEAST_PAIRS), ("steps", 1), ("compare", 0)):
        if (value := getattr(given, flag)) is not None and value < least:
            raise InvalidRequest(f"--{flag.replace('_', '-')} should be {least} or more, got {value}")
    base = parts.settings.model.partition("+")[0]
    if base.startswith(OLLAMA):
        raise InvalidRequest(f"{base} runs elsewhere and cannot be trained here; name an installed --model")
    made = tuning.plan(
        parts,
        Wanted(
            collection=parts.settings.collection,
            base=base,
            teacher=given.teacher,
            max_pairs=given.max_pairs,
            steps=given.steps,
            seed=given.seed,
        ),
    )
    _overview(made)
    if given.dry_run:
        return 0
    try:
        built = progress.built(parts, made, training)
        status = _compared(given, parts, built, embed) if given.compare else 0
        if given.merge:
            _merge(built.adapter, parts.home)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on where it stopped", file=sys.stderr)
        raise
    print(f"\nadapter: {built.adapter}\n         ask it as {base}+{built.adapter}\npairs:   {built.folder}")
    return status


def minutes(seconds: float) -> str:
    """A rough time, as people say it."""
    return f"about {max(1, round(seconds / 60))} min" if seconds >= 45 else "less than a minute"


def _overview(made: Plan) -> None:
    collected = made.collected
    lines = [
        f"collection {made.wanted.collection}: {len(collected.documents)} documents, "
        f"{len(collected.passages)} passages to ask about"
    ]
    lines += [f"  {count} passages left out: {why}" for why, count in collected.skipped.most_common()]
    again = ", some of them twice," if made.passages > len(collected.passages) else ""
    lines.append(
        f"writing questions on about {min(made.passages, len(collected.passages))} of them{again} "
        "and training takes "
        f"{minutes(made.seconds)} on two processor cores; what is done already is not done again"
    )
    print("\n".join(lines), file=sys.stderr, flush=True)


def _compared(
    given: argparse.Namespace, parts: Parts, built: Built, embed: Callable[[], evaluate.Embedding]
) -> int:
    """The comparison over held-out questions; its report gets the notes of the tuning and the verdict."""
    if not built.held_out.stat().st_size:
        print("no question was held out, so nothing is compared", file=sys.stderr)
        return 1
    out = built.folder / "report"
    command = ["evaluate", "--questions", str(built.held_out), "--out", str(out), "--modes", MODES]
    command += ["--finetuned", built.adapter, "--limit", str(given.compare)]
    begun = time.perf_counter()
    status = evaluate.compare(arguments.parse(command), parts, embed, notes=_notes(built.figures))
    if status == 130:
        raise KeyboardInterrupt
    took = round(time.perf_counter() - begun, 1)
    report: dict[str, Any] = json.loads((out / "report.json").read_text(encoding="utf-8"))
    said = verdict(report)
    report["notes"] = [*said, *report["notes"]]
    evaluate.write(out, report)
    tuning.write_figures(built.folder, built.figures | {"compare_s": took, "verdict": said})
    print("\n" + "\n".join(said) + f"\n(the comparison took {took:.0f} s)")
    return status


def _notes(figures: dict[str, Any]) -> list[str]:
    """What readers of the comparison should know of how its questions and the adapter were made."""
    rows = figures["rows"]
    rejected = ", ".join(f"{why} {count}" for why, count in figures["rejected"].items())
    told = [
        f"{figures['written']} questions were written on {figures['passages']} passages by "
        f"{figures['writer']}; {figures['kept']} were kept, {figures['rejected_share']:.0%} rejected "
        f"({rejected}).",
        f"{figures['adapter']} was trained on {rows['closed_book']} of them in {figures['steps']} steps; "
        f"those asked here are about other {figures['split_by']}s.",
        "Questions that the reader could not answer back were thrown out, which favours ways of answering "
        "that read as it does.",
    ]
    if figures["split_by"] != "document":
        told.append("There is one document with questions, so its passages were split instead.")
    times = {"writing": "write_s", "checking": "check_s", "training": "train_s"}
    stages = ", ".join(f"{stage} {figures[key]:.0f} s" for stage, key in times.items() if key in figures)
    return [*told, f"Time: {stages}."]


def _merge(adapter: str, home: Path) -> None:
    """Fold the adapter into its base, unless that has been done."""
    if (home / "models" / adapter).exists():
        print(f"the model {adapter} is there already", file=sys.stderr)
        return
    given = argparse.Namespace(adapter=adapter, base=None, name=None, dtype=None, force=False)
    merge_command.run(given, home)
