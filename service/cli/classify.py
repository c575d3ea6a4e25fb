"""`python -m service classify`: texts to labels on the terminal, without HTTP."""

from __future__ import annotations

import argparse
import json
import sys
import threading
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from service.app import assemble
from service.classifier.examples import without_repeated_keys
from service.classifier.shelf import SHIPPED
from service.cli.printed import print_json
from service.deps import Parts
from service.errors import InvalidRequest
from service.routes.classify import prepare
from service.schemas import ClassifyReply, ClassifyRequest
from service.settings import ServiceSettings


def execute(given: argparse.Namespace, settings: ServiceSettings, home: Path) -> int:
    """The command over the data folder."""
    return run(assemble(settings, home), given)


def run(parts: Parts, given: argparse.Namespace) -> int:
    """Label on standard output, one line a text; returns the exit status.

    Raises:
        ServiceError, IngestError, ModelError: what went wrong, with a message for people.
    """
    body = request(given)
    job = prepare(parts, body)
    cancel = threading.Event()
    try:
        outcome = next(job.run(cancel))
    except KeyboardInterrupt:
        cancel.set()
        raise
    reply = ClassifyReply.of(outcome, body.classifier)
    if given.json:
        print_json(reply.model_dump(mode="json"))
        return 0
    for text, result in zip(job.wanted.texts, reply.results, strict=True):
        best, probability = next(iter(result.scores.items()))
        probability = result.scores.get(result.label or best, probability)
        said = result.label or f"(abstains; likeliest: {best})"
        print(f"{probability:5.1%}  {said}\t{' '.join(text.split())[:100]}")
        for note in result.notes:
            print(f"        {note}", file=sys.stderr)
    weights = ", ".join(f"{part} {weight:.2f}" for part, weight in reply.weights.items())
    print(f"(weights: {weights}; likelihood: {reply.likelihood})", file=sys.stderr)
    return 0


def request(given: argparse.Namespace) -> ClassifyRequest:
    """The request that the arguments mean.

    Raises:
        InvalidRequest: one does not fit, or a file cannot be read.
        InvalidClasses: a label stands twice in the file.
    """
    texts: list[str] = []
    for text in given.texts:
        texts += [line.rstrip("\r\n") for line in sys.stdin] if text == "-" else [text]
    held = _file(given.classes) if given.classes else {}
    fields: dict[str, Any] = {
        "texts": texts,
        "classifier": given.classifier or (None if given.classes else SHIPPED),
        "classes": held.get("classes"),
        "instruction": given.instruction if given.instruction is not None else held.get("instruction"),
        "model": given.model,
        "abstain_below": given.abstain_below
        if given.abstain_below is not None
        else held.get("abstain_below"),
        "likelihood": given.likelihood,
        "include_prompt": given.include_prompt,
    }
    try:
        return ClassifyRequest.model_validate({k: v for k, v in fields.items() if v is not None})
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidRequest(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def _file(file: Path) -> dict[str, Any]:
    """What the file says: its labels, bare or under `classes`, where instruction and threshold may follow."""
    try:
        held = json.loads(file.read_text(encoding="utf-8-sig"), object_pairs_hook=without_repeated_keys)
    except OSError as error:
        raise InvalidRequest(f"{file} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise InvalidRequest(f"{file} cannot be read as JSON: {error}") from error
    return held if isinstance(held, dict) and isinstance(held.get("classes"), dict) else {"classes": held}
