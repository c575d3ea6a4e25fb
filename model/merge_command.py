"""`python -m model merge`: an adapter folded into its base, as a model of its own."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch

from model import checkpoint, install
from model.errors import AdapterError, CheckpointError
from model.formats import peft
from model.merge import merge_folder
from model.shelf import adapters
from model.train.runs import NAME

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `merge`."""
    add = parser.add_argument
    add("adapter", help="name of an adapter in LOREBASE_HOME/adapters, or a folder in peft's format")
    add("--base", help="installed model to fold it into; default: the one that it was trained on")
    add("--name", help="of the merged model; default: the adapter's")
    add(
        "--dtype",
        choices=DTYPES,
        help="of the merged matrices; default: the base's, float16 where it is quantized",
    )
    add("--force", action="store_true", help="replace a model of that name")


def run(args: argparse.Namespace, home: Path) -> int:
    """Merge; returns 0.

    Raises:
        ModelError: no such adapter or base, an adapter for another base, or a name that is taken.
    """
    folder = adapter_folder(args.adapter, home)
    base = checkpoint.load(install.find(args.base or base_of(folder), home))
    name = args.name or folder.name
    if not NAME.fullmatch(name):
        raise AdapterError(
            f"{name!r} cannot be a model's name: letters, digits, . _ - and at most 100 of them"
        )
    target = install.models_folder(home) / name
    if target.exists() and not args.force:
        raise CheckpointError(f"the model {name} exists; choose another --name, or replace it with --force")
    if target == base.path:
        raise CheckpointError(f"{name} is the base itself; choose another --name")
    merge_folder(base, folder, target, dtype=DTYPES[args.dtype] if args.dtype else None)
    sys.stdout.write(f"{name}: {base.path.name} + {folder.name} in {target}\n")
    return 0


def adapter_folder(name: str, home: Path) -> Path:
    """Where an adapter is: by name in the data folder, or anywhere by path.

    Raises:
        AdapterError: there is none; lists those there are.
    """
    shelf = home / "adapters"
    for folder in (shelf / name if NAME.fullmatch(name) else Path(name), Path(name).expanduser()):
        if (folder / peft.CONFIG_FILE).is_file():
            return folder.resolve()
    listed = {one.name: one.folder for one in adapters(home)}  # of runs, and those that come with the package
    if name in listed:
        return listed[name].resolve()
    raise AdapterError(f"{name!r} is no adapter; there are: {', '.join(listed) or 'none'}")


def base_of(folder: Path) -> str:
    """The name of the model that an adapter says it was trained on.

    Raises:
        AdapterError: it does not say.
    """
    try:
        described = json.loads((folder / peft.CONFIG_FILE).read_text(encoding="utf-8"))
        name = described["base_model_name_or_path"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AdapterError(f"{folder / peft.CONFIG_FILE} names no base ({error}); give --base") from error
    return Path(str(name)).name
