"""The composition root: everything is constructed here and handed down; tests hand in fakes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio.to_thread
from fastapi import Depends, FastAPI
from fastapi.staticfiles import StaticFiles

from service import access, auth, gauges, problems, wiring
from service.answer import Answerer
from service.classifier.classify import Classifying
from service.classifier.decided import Decided
from service.classifier.shelf import Shelf
from service.classifier.trained import TrainedClassifying
from service.database import records
from service.deps import Parts
from service.generators import Generator
from service.guard import Guard
from service.jobs import JobBoard
from service.keys import Keys
from service.library import Library
from service.metrics import Metrics
from service.observing import Mender, Observer
from service.rates import Rates
from service.readiness import Readiness
from service.reranking import Reranking
from service.routes import (
    ask,
    classify,
    collections,
    documents,
    evaluations,
    models,
    ollama,
    openai,
    ops,
    originals,
    runs,
    search,
    sessions,
    syncing,
    vectors,
)
from service.runner import Runner
from service.sessions import Sessions
from service.settings import ServiceSettings, is_loopback
from service.workshop.comparisons import Comparisons
from service.workshop.making import Making
from service.workshop.runs import Training
from service.workshop.sets import DataSets

#: Bodies other than uploads.
MAX_BODY_BYTES = 1_000_000
#: Questions that other servers answer at the same time: they have processors of their own.
UPSTREAM_SLOTS = 4


def assemble(
    settings: ServiceSettings, home: Path, library: Library | None = None, generator: Generator | None = None
) -> Parts:
    """Everything that answers questions, wired together; nothing is loaded yet."""
    shelves = library or wiring.library(settings, home)
    generators = wiring.models(settings, home, generator)
    metrics = Metrics()
    most = settings.queue_length
    parts = Parts(
        settings=settings,
        home=home,
        loaded_first=settings.collection,
        library=shelves,
        models=generators,
        answerer=Answerer(settings.refuse_below, calibrators=wiring.calibrators(home)),
        runner=Runner("answers", 1, most, heed=metrics.heed),
        upstream_runner=Runner("upstream", UPSTREAM_SLOTS, most, heed=metrics.heed),
        search_runner=Runner("search", 1, 4 * (most + 1), heed=metrics.heed),
        embed_runner=Runner("embeddings", 1, most, heed=metrics.heed),
        jobs=JobBoard(
            shelves,
            home / "uploads",
            lambda e: problems.problem(e, home)[1]["error"],
            settings.job_queue_length,
        ),
        readiness=Readiness({"index": shelves.warm, "generator": generators.warm}),
        classifying=Classifying(shelves.embedder, Decided(home / "classifiers" / ".decided")),
        trained=TrainedClassifying(),
        reranking=Reranking(settings.reranker, settings.rerank, home, lambda: generators.choose(None).get()),
        classifiers=Shelf(home / "classifiers"),
        sessions=Sessions(records(settings.database, home)),
        datasets=(sets := DataSets(home)),
        training=Training(home, sets),
        comparisons=Comparisons(home, sets),
        making=Making(home),
        metrics=metrics,
    )
    metrics.watch(lambda: gauges.read(parts))
    return parts


def create_app(
    settings: ServiceSettings, home: Path, library: Library | None = None, generator: Generator | None = None
) -> FastAPI:
    """The service over `home`; a library or generator that is handed in is used instead of the real one."""
    parts = assemble(settings, home, library, generator)
    keys = Keys(records(settings.database, home))  # connections of its own: no key waits for a conversation

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        parts.readiness.start()
        yield
        parts.readiness.close()
        parts.jobs.close()
        for runner in parts.runners:
            await anyio.to_thread.run_sync(runner.close, settings.shutdown_grace_s)
        await anyio.to_thread.run_sync(parts.library.close)
        parts.sessions.close()
        keys.close()

    app = FastAPI(
        title="Lorebase",
        summary="Answers from your own documents, with citations that can be checked.",
        version=ops.running_version(),
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        docs_url=None,  # its scripts would come from elsewhere
        redoc_url=None,
        dependencies=[Depends(access.allow)],
        lifespan=lifespan,
    )
    app.state.parts = parts
    auth.describe(app)
    shared = None if settings.api_key_file is None else auth.SharedKey.read(settings.api_key_file)
    doorman = auth.Doorman(keys, shared, open_without_keys=is_loopback(settings.host))
    app.state.doorman = doorman
    app.add_middleware(Mender, home=home)  # the last added is the outermost
    rates = Rates(settings.rate_limit) if settings.rate_limit else None
    app.add_middleware(auth.Gate, doorman=doorman, rates=rates)  # inside the guard: strangers end there
    app.add_middleware(
        Guard,
        trusted_hosts=settings.trusted_hosts,
        body_bytes=MAX_BODY_BYTES,
        upload_bytes=settings.max_upload_mb * 1_000_000 + MAX_BODY_BYTES,
    )
    app.add_middleware(Observer, metrics=parts.metrics)
    limits = f"at most {settings.max_upload_mb} MB for uploads and 1 MB for anything else"
    problems.register(app, home, limits)
    app.include_router(ask.router)
    app.include_router(sessions.router)
    app.include_router(search.router)
    app.include_router(classify.router)
    app.include_router(collections.router)
    app.include_router(syncing.router)
    app.include_router(documents.router)
    app.include_router(originals.router)
    app.include_router(models.router)
    app.include_router(runs.router)
    app.include_router(evaluations.router)
    app.include_router(vectors.router)
    app.include_router(openai.router)
    app.include_router(ollama.router)
    app.include_router(ops.router)
    app.mount("/web", StaticFiles(directory=ops.WEB, check_dir=False), name="web")
    return app
