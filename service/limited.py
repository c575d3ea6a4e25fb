"""The library, the jobs and the models as a key sees them that is held to some collections.

For it the others do not exist. A foreign collection is answered as an unknown one is, to the letter, whatever
the inner library would have said; its name is in no list. Because routes are handed these in place of the
real ones, no route can forget to ask. A model or adapter that knows a foreign collection by heart is there,
and refused: it could be asked without a single passage.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

from ingest.errors import UnknownCollection
from service.access import Access
from service.errors import Forbidden, UnknownJob
from service.generators import Generator
from service.jobs import JobBoard
from service.library import CollectionInfo, Library
from service.models import Choice, Models

#: What tells of no collection.
_FREE = {"embedder", "embedders"}


def _unknown(collection: str) -> UnknownCollection:
    return UnknownCollection(f"there is no collection {collection!r}, or this key is not for it")


class _Limited:
    """Passes on what names a collection that the key is for; everything else of the inner object is shut."""

    def __init__(self, inner: Any, access: Access) -> None:
        self._inner, self._access = inner, access

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        method = getattr(self._inner, name)
        if name in _FREE:
            return method
        if not callable(method) or "collection" not in inspect.signature(method).parameters:
            raise AttributeError(f"{name} is not for keys that are held to some collections")
        return self._checked(method)

    def _checked(self, method: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(method)

        @functools.wraps(method)
        def checked(*args: Any, **kwargs: Any) -> Any:
            collection = signature.bind(*args, **kwargs).arguments["collection"]
            if not self._access.sees(collection):
                raise _unknown(collection)
            try:
                return method(*args, **kwargs)
            except UnknownCollection:
                raise _unknown(collection) from None

        return checked


class _Shelves(_Limited):
    def collections(self) -> list[CollectionInfo]:
        return [c for c in self._inner.collections() if self._access.sees(c.name)]


class _Jobs(_Limited):
    def new_folder(self) -> Any:
        return self._inner.new_folder()

    def job(self, job_id: str) -> Any:
        job = self._inner.job(job_id)
        if not self._access.sees(job.collection):
            raise UnknownJob(f"no job {job_id!r}; jobs are forgotten when the service restarts")
        return job

    def cancel(self, job_id: str) -> Any:
        return self._inner.cancel(self.job(job_id).id)

    def jobs(self) -> list[Any]:
        return [job for job in self._inner.jobs() if self._access.sees(job.collection)]


class _Models:
    """Passes everything on; whoever is chosen must know nothing by heart that the key is not for."""

    def __init__(self, inner: Models, access: Access) -> None:
        self._inner, self._access = inner, access

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def choose(self, name: str | None) -> Choice:
        choice = self._inner.choose(name)
        self._check(name)

        def get() -> Generator:
            self._check(name)  # somebody may have switched another adapter on meanwhile
            return choice.get()

        return replace(choice, get=get)

    def _check(self, name: str | None) -> None:
        for part, collections in self._inner.trained_on(name).items():
            if not all(map(self._access.sees, collections)):
                raise Forbidden(
                    f"{part!r} was trained on documents that this key is not for; ask another model"
                )


def library(inner: Library, access: Access) -> Library:
    """The library as that caller sees it."""
    return cast(Library, _Shelves(inner, access))


def jobs(inner: JobBoard, access: Access) -> JobBoard:
    """The jobs as that caller sees them."""
    return cast(JobBoard, _Jobs(inner, access))


def models(inner: Models, access: Access) -> Models:
    """The models as that caller may ask them."""
    return cast(Models, _Models(inner, access))
