"""Named classifiers: `LOREBASE_HOME/classifiers/NAME.json`, and those that come with the program.

Beside them lie trained ones (`python -m model classify train`), a folder each.

A file is written beside its place and renamed, so a reader finds the old one or the new one. A name of the
user's hides one that came with the program; deleting it brings that one back.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from ingest.collections import InvalidName, checked_name
from model.errors import CheckpointError
from model.heads import described as heads
from model.heads.described import Described
from service.classifier.examples import Classes, without_repeated_keys
from service.errors import BuiltIn, DamagedClassifier, InvalidClasses, InvalidRequest, UnknownClassifier

SHIPPED = "finance-zh"


@dataclass(frozen=True, slots=True)
class Named:
    """A classifier on the shelf."""

    name: str
    classes: Classes
    description: str = ""
    abstain_below: float = 0.0
    built_in: bool = False
    hides_built_in: bool = False


@dataclass(frozen=True, slots=True)
class Trained:
    """A classifier that learned from many examples: a head on one of our own models."""

    name: str
    folder: Path
    described: Described

    @property
    def labels(self) -> dict[str, int]:
        """Label to the number of texts that it was learned from."""
        return {label: int(self.described.counts.get(label, 0)) for label in self.described.labels}


class Shelf:
    """The classifiers of one data folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def names(self) -> list[str]:
        """All names, sorted."""
        found = {file.stem for file in self._folder.glob("*.json") if self._is_name(file.stem)}
        return sorted(found | set(_shipped()) | set(self._trained()))

    def get(self, name: str) -> Named | Trained:
        """One classifier.

        Raises:
            UnknownClassifier: there is none of that name.
            DamagedClassifier: its file cannot be read.
        """
        try:
            file = self._file(name)
        except InvalidRequest as error:
            raise self._unknown(name) from error
        if name in self._trained():
            path = self._folder / name
            try:
                return Trained(name, path, heads.describe(path))
            except CheckpointError as error:
                raise self._damaged(name, error) from error
        shipped = _shipped()
        try:
            text = file.read_text(encoding="utf-8")
        except FileNotFoundError:
            if name in shipped:
                return _read(name, shipped[name], built_in=True)
            raise self._unknown(name) from None
        except (OSError, UnicodeDecodeError) as error:
            raise self._damaged(name, error) from error
        try:
            return _read(name, text, hides_built_in=name in shipped)
        except (ValueError, TypeError, KeyError, AttributeError, InvalidClasses) as error:
            raise self._damaged(name, error) from error

    def put(self, named: Named) -> bool:
        """Keep it; whether none of the user's had that name before.

        Raises:
            InvalidRequest: the name cannot be that of a file, or a trained classifier has it.
        """
        file = self._file(named.name)
        if named.name in self._trained():
            raise InvalidRequest(
                f"{named.name} is a trained classifier, which examples cannot replace: delete it first, or "
                "choose another name"
            )
        held: dict[str, Any] = {
            "description": named.description,
            "instruction": named.classes.instruction,
            "abstain_below": named.abstain_below,
            "classes": named.classes.as_given(),
        }
        new = not file.exists()
        self._folder.mkdir(parents=True, exist_ok=True)
        handle, beside = tempfile.mkstemp(prefix=".", suffix=".tmp", dir=self._folder)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as out:
                json.dump(held, out, ensure_ascii=False, indent=1)
                out.flush()
                os.fsync(out.fileno())
            Path(beside).replace(file)
        except BaseException:
            Path(beside).unlink(missing_ok=True)
            raise
        return new

    def delete(self, name: str) -> None:
        """Remove it.

        Raises:
            UnknownClassifier: there is none of that name.
            BuiltIn: it came with the program.
        """
        if name in self._trained():
            shutil.rmtree(self._folder / name)
            return
        try:
            self._file(name).unlink()
        except (FileNotFoundError, InvalidRequest) as error:
            if name in _shipped():
                raise BuiltIn(
                    f"{name} came with the program and cannot be deleted; put another classifier under the "
                    "same name, and that one is used"
                ) from error
            raise self._unknown(name) from error

    def _trained(self) -> list[str]:
        return heads.names("classifier", self._folder.parent)

    def _is_name(self, stem: str) -> bool:
        """Whether a file there can be a classifier's; somebody's copy of one may be called anything."""
        try:
            self._file(stem)
        except InvalidRequest:
            return False
        return True

    def _file(self, name: str) -> Path:
        try:
            return self._folder / f"{checked_name(name)}.json"
        except InvalidName as error:
            raise InvalidRequest(
                f"{name[:80]!r} cannot name a classifier: use letters, digits, '-', '_' and '.', at most 64"
            ) from error

    def _unknown(self, name: str) -> UnknownClassifier:
        return UnknownClassifier(f"no classifier {name[:80]!r}; there are: {', '.join(self.names())}")

    @staticmethod
    def _damaged(name: str, error: Exception) -> DamagedClassifier:
        return DamagedClassifier(
            f"the classifier {name} cannot be read ({error}): put it again, or delete it"
        )


def _shipped() -> Mapping[str, str]:
    file = resources.files("service.classifier") / f"{SHIPPED}.json"
    return {SHIPPED: file.read_text(encoding="utf-8")}


def _read(name: str, text: str, *, built_in: bool = False, hides_built_in: bool = False) -> Named:
    held = json.loads(text, object_pairs_hook=without_repeated_keys)
    classes = Classes.of(held["classes"], held.get("instruction"))
    below = float(held.get("abstain_below", 0.0))
    if not 0 <= below <= 1:
        raise ValueError("abstain_below is not between 0 and 1")
    return Named(name, classes, str(held.get("description", "")), below, built_in, hides_built_in)
