"""Adapters folded into models, and models written for other programs; one at a time, each takes memory."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from model import checkpoint, install, shelf
from model.errors import AdapterError, UnsupportedModel
from model.train.runs import NAME
from service.errors import InvalidRequest, NameTaken

EXPORTS = "exports"


@dataclass(frozen=True, slots=True)
class Written:
    """An export: its folder below the data folder, and its files with their sizes."""

    folder: str
    files: tuple[tuple[str, int], ...]
    next: str  #: the command that uses it


class Making:
    """Merges and exports of one data folder."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._lock = threading.Lock()

    def merge(self, adapter: str, base: str | None, name: str | None) -> str:
        """Fold an adapter into its base; the name of the new model.

        Raises:
            UnknownModel: no such adapter or base.
            AdapterError: it says no base, or is for another one.
            NameTaken: a model has the name.
            InvalidRequest: the name cannot be one.
        """
        from model.merge import merge_folder

        found = shelf.find(adapter, self._home)
        base = base or found.base
        if base is None:
            raise AdapterError(f"the adapter {adapter} does not say which model it was trained on; give base")
        name = name or found.name
        if not NAME.fullmatch(name):
            raise InvalidRequest(f"{name[:80]!r} cannot be a model's name: letters, digits, '.', '_' and '-'")
        target = install.models_folder(self._home) / name
        with self._lock:
            if target.exists():
                raise NameTaken(f"there is a model {name} already: choose another name")
            merge_folder(checkpoint.load(install.find(base, self._home)), found.folder, target)
        return name

    def export(self, model: str, form: Literal["hf", "gguf"], quantize: Literal["f16", "q8_0"]) -> Written:
        """Write a model as other programs read it, to `exports/MODEL-FORM` in the data folder.

        Raises:
            UnknownModel: it is not installed.
            UnsupportedModel, ExportError, CheckpointError: the form cannot hold it, or the disk refused.
        """
        path = install.find(model, self._home)
        if install.kind_of(path) == "embedder":
            raise UnsupportedModel(
                f"{model} is an embedder: its folder is what other programs read, as it is"
            )
        out = self._home / EXPORTS / f"{path.name}-{form}"
        with self._lock:
            found = checkpoint.load(path)
            if form == "hf":
                from model.formats import hf

                hf.write(found, out, dtype="bf16")
                after = f"transformers: AutoModelForCausalLM.from_pretrained('{EXPORTS}/{out.name}')"
            else:
                from model.export.command import MODELFILE, write_gguf

                write_gguf(found, out, quantize)
                after = f"ollama create {path.name} -f {MODELFILE}"
        files = tuple((f.name, f.stat().st_size) for f in sorted(out.iterdir()) if f.is_file())
        return Written(f"{EXPORTS}/{out.name}", files, after)
