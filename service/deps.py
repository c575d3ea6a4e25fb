"""What a route can ask for in its signature."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from fastapi import Depends, Request

from service import limited
from service.access import access
from service.answer import Answerer
from service.classifier.classify import Classifying
from service.classifier.shelf import Shelf
from service.classifier.trained import TrainedClassifying
from service.jobs import JobBoard
from service.library import Library
from service.metrics import Metrics
from service.models import Models
from service.readiness import Readiness
from service.reranking import Reranking
from service.runner import Runner
from service.sessions import Sessions
from service.settings import ServiceSettings
from service.workshop.comparisons import Comparisons
from service.workshop.making import Making
from service.workshop.runs import Training
from service.workshop.sets import DataSets


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything that `app.create_app` constructed."""

    settings: ServiceSettings
    home: Path
    loaded_first: str  #: the collection that the readiness's index is
    library: Library
    models: Models
    answerer: Answerer
    runner: Runner  #: our own engine's slot
    upstream_runner: Runner  #: other servers' slots
    search_runner: Runner  #: searches without an answer
    embed_runner: Runner  #: vectors for other programs
    jobs: JobBoard
    readiness: Readiness
    classifying: Classifying
    trained: TrainedClassifying
    reranking: Reranking
    classifiers: Shelf
    sessions: Sessions
    datasets: DataSets
    training: Training
    comparisons: Comparisons
    making: Making
    metrics: Metrics

    @property
    def runners(self) -> tuple[Runner, ...]:
        """All of them."""
        return self.runner, self.upstream_runner, self.search_runner, self.embed_runner

    def require_index(self, collection: str) -> None:
        """Pass if a collection can be searched, as far as is known; another one's fault does not count.

        Raises:
            NotReady: the index is still being loaded.
            Exception: what failed when this very collection was loaded.
        """
        if collection == self.loaded_first:
            self.readiness.require("index")
        else:
            self.readiness.settled("index")


async def parts(request: Request) -> Parts:
    """The parts of the app that serves this request, as its caller may see them.

    `async`, though it waits for nothing: a plain function would cost every request a turn in the thread pool,
    which is slow while other threads compute and full while many requests read the disk.
    """
    found: Parts = request.app.state.parts
    caller = access(request)
    if caller.collections is None:
        return found
    settings = found.settings
    if not caller.sees(settings.collection) and caller.collections:
        settings = settings.model_copy(update={"collection": min(caller.collections)})
    return replace(
        found,
        settings=settings,
        library=limited.library(found.library, caller),
        jobs=limited.jobs(found.jobs, caller),
        models=limited.models(found.models, caller),
    )


PartsDep = Annotated[Parts, Depends(parts)]
