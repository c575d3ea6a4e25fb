"""Training sets and questions in `LOREBASE_HOME/datasets`: files, read when they come and when they change.

A file is taken only if it can be used: as conversations (Alpaca's, ShareGPT's or the reading form) or as
questions with known answers. Malformed rows do not keep it out, they are counted and named. A file is written
beside its place and renamed. `python -m model sft --dataset NAME` finds the same files.
"""

from __future__ import annotations

import contextlib
import os
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from ingest.collections import InvalidName, checked_name
from model.data.forms import load
from model.data.registry import SetSpec
from model.errors import DataError
from service.errors import InvalidUpload, NameTaken, QuestionsUnreadable, UnknownName
from service.evaluation.questions import read_questions

SUFFIXES = (".json", ".jsonl")
#: Rows shown of a set, problems named, characters of a turn.
SHOWN_PROBLEMS, SHOWN_CHARS = 5, 400
FOLDER = "datasets"


@dataclass(frozen=True, slots=True)
class DataSet:
    """One file."""

    name: str  #: of the file
    kind: str  #: alpaca, sharegpt, reading: conversations; questions; unreadable
    rows: int
    problems: tuple[str, ...] = ()  #: what is wrong with it, or with some of its rows
    malformed: int = 0
    sample: tuple[
        tuple[str, str], ...
    ] = ()  #: role and words of the first conversation, or of the first question
    bytes: int = 0
    changed_at: str = ""


class DataSets:
    """The files of one data folder."""

    def __init__(self, home: Path) -> None:
        self._folder = home / FOLDER
        self._known: dict[tuple[str, int, int], DataSet] = {}
        self._lock = threading.Lock()

    def all(self) -> list[DataSet]:
        """Every set, the latest first."""
        found = []
        for file in self._files():
            with contextlib.suppress(UnknownName):  # deleted meanwhile
                found.append(self.get(file.name))
        return sorted(found, key=lambda one: one.changed_at, reverse=True)

    def get(self, name: str) -> DataSet:
        """One set. Raises UnknownName."""
        file = self.file(name)
        try:
            state = file.stat()
            key = file.name, state.st_mtime_ns, state.st_size
            with self._lock:
                if key not in self._known:
                    self._known[key] = described(file)
                return self._known[key]
        except FileNotFoundError as error:
            raise self._unknown(name) from error

    def file(self, name: str) -> Path:
        """Where a set is. Raises UnknownName."""
        file = self._folder / name
        if name not in {there.name for there in self._files()}:
            raise self._unknown(name)
        return file

    def add(self, name: str, content: BinaryIO) -> DataSet:
        """Keep a file.

        Raises:
            InvalidUpload: a name that cannot be one, or a file that is neither conversations nor questions.
            NameTaken: there is a set of that name.
        """
        target = self._folder / set_name(name)
        if target.exists():
            raise self._taken(target.name)
        self._folder.mkdir(parents=True, exist_ok=True)
        beside = self._folder / f".{os.getpid()}-{threading.get_ident()}{target.suffix}"
        try:
            with beside.open("wb") as out:
                while block := content.read(1 << 20):
                    out.write(block)
                out.flush()
                os.fsync(out.fileno())
            found = described(beside)
            if found.kind == "unreadable":
                why = found.problems[0].replace(beside.name, target.name)
                raise InvalidUpload(f"{target.name} cannot be trained on: {why}")
            with self._lock:
                if target.exists():  # it came in the meantime
                    raise self._taken(target.name)
                beside.rename(target)
        finally:
            beside.unlink(missing_ok=True)
        return self.get(target.name)

    def delete(self, name: str) -> None:
        """Remove a set. Raises UnknownName."""
        self.file(name).unlink(missing_ok=True)

    def _files(self) -> list[Path]:
        found = [file for s in SUFFIXES for file in sorted(self._folder.glob(f"[!.]*{s}")) if file.is_file()]
        return [file for file in found if file.name.isprintable()]  # a name that is no UTF-8 cannot be told

    def _unknown(self, name: str) -> UnknownName:
        names = ", ".join(there.name for there in self._files()) or "none"
        return UnknownName(f"no set {name[:80]!r}; there are: {names}. Upload one: POST /datasets")

    @staticmethod
    def _taken(name: str) -> NameTaken:
        return NameTaken(f"there is a set {name} already: delete it, or choose another name")


def set_name(name: str) -> str:
    """A file name that is safe to write, from what an upload calls itself.

    Raises:
        InvalidUpload: it is not that of a JSON file, or has characters that no name here may have.
    """
    stem, dot, suffix = name.replace("\\", "/").rpartition("/")[2].rpartition(".")
    if f"{dot}{suffix}".lower() not in SUFFIXES:
        raise InvalidUpload(f"{name[:80]!r} is not a .json or .jsonl file")
    try:
        return f"{checked_name(stem)}.{suffix.lower()}"
    except InvalidName as error:
        raise InvalidUpload(
            f"{name[:80]!r} cannot name a set: use letters, digits, '-', '_' and '.', at most 64"
        ) from error


def described(file: Path) -> DataSet:
    """What a file holds; one that cannot be used says why in its problems."""
    state = file.stat()
    figures = {
        "bytes": state.st_size,
        "changed_at": datetime.fromtimestamp(state.st_mtime, UTC).isoformat(timespec="seconds"),
    }
    try:
        loaded = load(SetSpec(name=file.stem, file=file))
    except DataError as error:
        return _questions(file, str(error).replace(str(file), file.name), figures)
    if not loaded.examples:
        first = f": {loaded.problems[0].what}" if loaded.problems else ""
        return DataSet(file.name, "unreadable", loaded.rows, (f"no row of it can be used{first}",), **figures)  # type: ignore[arg-type]
    turns = loaded.examples[0].conversations[0]
    return DataSet(
        file.name,
        str(loaded.spec.form),
        loaded.rows,
        tuple(f"row {p.row}: {p.what}" for p in loaded.problems[:SHOWN_PROBLEMS]),
        len(loaded.problems),
        tuple((turn["role"], _short(turn["content"])) for turn in turns),
        **figures,  # type: ignore[arg-type]
    )


def _questions(file: Path, otherwise: str, figures: dict[str, object]) -> DataSet:
    try:
        found = read_questions(file)
    except (QuestionsUnreadable, OSError, UnicodeDecodeError, RecursionError):
        return DataSet(file.name, "unreadable", 0, (otherwise,), **figures)  # type: ignore[arg-type]
    answer = _short(found[0].answers[0]) if found[0].answers else ""
    sample = (("user", _short(found[0].text)), ("assistant", answer))
    return DataSet(file.name, "questions", len(found), (), 0, sample, **figures)  # type: ignore[arg-type]


def _short(text: str) -> str:
    text = text.encode("utf-8", "replace").decode()  # half a character, which JSON can spell
    return text if len(text) <= SHOWN_CHARS else f"{text[:SHOWN_CHARS]}…"
