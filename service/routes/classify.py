"""`POST /classify` and the named classifiers."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass

from fastapi import APIRouter, Request, Response

from service import errors, problems
from service.classifier.classify import Outcome, Wanted
from service.classifier.examples import without_repeated_keys
from service.classifier.shelf import Trained
from service.classifier.trained import WantedOfTrained
from service.deps import Parts, PartsDep
from service.models import Choice
from service.routes.listening import listen
from service.schemas import ClassifierBody, ClassifierReply, ClassifiersReply, ClassifyReply, ClassifyRequest
from service.schemas.classifying import ClassifierSummary

router = APIRouter(tags=["classify"])


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request that passed every check that costs nothing."""

    parts: Parts
    wanted: Wanted | WantedOfTrained
    choice: Choice

    def run(self, cancel: threading.Event) -> Iterator[Outcome]:
        """The job: blocks, runs in a slot's thread."""
        choice = self.choice
        if isinstance(self.wanted, WantedOfTrained):
            yield self.parts.trained.classify(self.wanted, choice.get, cancel)
            return
        yield self.parts.classifying.classify(self.wanted, choice.get, cancel, own=choice.own)


def prepare(parts: Parts, body: ClassifyRequest) -> Prepared:
    """Check a request.

    Raises:
        InvalidClasses, UnknownClassifier, UnknownModel, NotReady: nothing was done for it.
    """
    named = None if body.classifier is None else parts.classifiers.get(body.classifier)
    if isinstance(named, Trained):
        base = named.described.base
        return Prepared(parts, body.wanted_of_trained(named), parts.models.choose(body.model or base))
    wanted = body.wanted(named)
    return Prepared(parts, wanted, parts.models.choose(body.model))


@router.post(
    "/classify",
    summary="Texts to labels",
    responses={**problems.declared(404, 429, 500, 502, 503, 504)},
)
async def classify(body: ClassifyRequest, request: Request, parts: PartsDep) -> ClassifyReply:
    """By a few examples of each label, or by a named classifier. Probabilities are of the given labels."""
    await _refuse_repeated_keys(request)
    prepared = prepare(parts, body)
    parts.readiness.settled("index")  # the embedder is loaded with it, or says itself what is wrong
    runner = parts.runner if prepared.choice.own else parts.upstream_runner
    ticket = runner.submit(prepared.run, parts.settings.deadline_s)
    async with contextlib.aclosing(listen(request, ticket)) as events:
        return ClassifyReply.of(await anext(events), body.classifier)


@router.get("/classifiers", summary="Named classifiers", responses={**problems.declared(500)})
def list_classifiers(parts: PartsDep) -> ClassifiersReply:
    """Your own and those that came with the program."""
    found = []
    for name in parts.classifiers.names():
        with contextlib.suppress(errors.UnknownClassifier):  # deleted meanwhile
            found.append(_summary(parts, name))
    return ClassifiersReply(classifiers=found)


@router.get(
    "/classifiers/{name}", summary="One named classifier", responses={**problems.declared(404, 500, 503)}
)
def get_classifier(name: str, parts: PartsDep) -> ClassifierReply:
    """With its examples, in the form in which it can be put."""
    return ClassifierReply.of(parts.classifiers.get(name))


@router.put(
    "/classifiers/{name}",
    summary="Keep a classifier",
    responses={201: {"model": ClassifierReply, "description": "Created"}, **problems.declared(500, 507)},
)
async def put_classifier(
    name: str, body: ClassifierBody, request: Request, response: Response, parts: PartsDep
) -> ClassifierReply:
    """Replaces one of that name; one that came with the program is hidden by it."""
    await _refuse_repeated_keys(request)
    if parts.classifiers.put(body.named(name)):
        response.status_code = 201
    return ClassifierReply.of(parts.classifiers.get(name))


@router.delete(
    "/classifiers/{name}",
    summary="Delete a classifier",
    status_code=204,
    responses={**problems.declared(404, 409, 500)},
)
def delete_classifier(name: str, parts: PartsDep) -> None:
    """One that came with the program stays; one that yours has hidden comes back."""
    parts.classifiers.delete(name)


async def _refuse_repeated_keys(request: Request) -> None:
    """A label that stands twice would silently lose half of its examples.

    Raises:
        InvalidClasses: a key stands twice in the body.
    """
    json.loads(await request.body(), object_pairs_hook=without_repeated_keys)


def _summary(parts: Parts, name: str) -> ClassifierSummary:
    try:
        named = parts.classifiers.get(name)
    except errors.DamagedClassifier as error:
        return ClassifierSummary(name=name, description="", labels={}, built_in=False, problem=str(error))
    if isinstance(named, Trained):
        about = named.described.description
        return ClassifierSummary(
            name=name, description=about, labels=named.labels, built_in=False, trained_on=named.described.base
        )
    labels = {label: len(texts) for label, texts in named.classes.as_given().items()}
    return ClassifierSummary(name=name, description=named.description, labels=labels, built_in=named.built_in)
