"""The adapters of a data folder: in `adapters/NAME/`, in finished runs, and those that come with the package.

Nothing here reads a weight or imports torch: listing must be quick. Whether an adapter fits its base shows
when it is attached (`model.engine`) or folded in (`model.merge`).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from model import folder
from model.errors import AdapterError, UnknownModel
from model.train import runs

CONFIG_FILE, OWN_FILE, WEIGHTS_FILE = "adapter_config.json", "lorebase.json", "adapter_model.safetensors"
#: Adapters that come with this package, each shown where its model is installed.
SHIPPED = Path(__file__).parent / "adapters"
#: Beside an adapter: which documents it was trained on.
TRAINED_ON = "trained_on.json"
#: In a checkpoint's metadata: the collections that adapters folded into it were trained on.
KNOWN = "known_collections"
#: Where a run keeps its result, the better one first.
RESULTS = ("checkpoints/best/adapter", "checkpoints/last/adapter")


@dataclass(frozen=True, slots=True)
class Shelved:
    """An adapter on the disk."""

    name: str
    folder: Path
    base: str | None  #: name of the model that it was trained on, as far as it says
    base_weights: str | None  #: `model.identity` of that model; None: not known
    rank: int | None


def adapters(home: Path) -> list[Shelved]:
    """All of them, by name; `adapters/` hides runs, and both what was shipped. Damaged ones are listed."""
    folders = {path.parent.name: path.parent for path in sorted((home / "adapters").glob(f"*/{CONFIG_FILE}"))}
    for run in runs.every(home):
        if run.status()["state"] == "finished":
            results = [run.path / result for result in RESULTS]
            found = next((path for path in results if (path / CONFIG_FILE).is_file()), None)
            if found is not None:
                folders.setdefault(run.name, found)
    for path in sorted(SHIPPED.glob(f"*/{CONFIG_FILE}")):
        base = _shelved(path.parent.name, path.parent).base
        if base is not None and (home / "models" / base).is_dir():
            folders.setdefault(path.parent.name, path.parent)
    return [_shelved(name, path) for name, path in sorted(folders.items()) if runs.NAME.fullmatch(name)]


def hashes(home: Path) -> dict[str, str]:
    """A hash of each adapter's weights by its name: trained again, it is another by the same name."""
    files = {adapter.name: adapter.folder / WEIGHTS_FILE for adapter in adapters(home)}
    return {
        name: hashlib.blake2b(file.read_bytes(), digest_size=8).hexdigest()
        for name, file in files.items()
        if file.is_file()
    }


def find(name: str, home: Path) -> Shelved:
    """The adapter of that name.

    Raises:
        UnknownModel: there is none; lists those there are.
        AdapterError: its files have not the sizes that its manifest says.
    """
    there = adapters(home)
    for shelved in there:
        if shelved.name == name:
            if damage := folder.damage(shelved.folder):
                raise AdapterError(f"{shelved.folder} is damaged: {damage[0]}. Train it again")
            return shelved
    names = ", ".join(shelved.name for shelved in there) or "none"
    raise UnknownModel(f"{name!r} is no adapter of {home}; there are: {names}")


def _shelved(name: str, path: Path) -> Shelved:
    described, own = _json(path / CONFIG_FILE), _json(path / OWN_FILE)
    base, rank, weights = described.get("base_model_name_or_path"), described.get("r"), own.get("base")
    return Shelved(
        name,
        path,
        Path(base).name if isinstance(base, str) and base else None,
        weights if isinstance(weights, str) else None,
        rank if isinstance(rank, int) else None,
    )


def _json(file: Path) -> dict[str, object]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
