"""What training commands share: begin a run or resume one, alone or under torchrun, here or detached."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.errors import TrainingError
from model.train import distributed, runs
from model.train.distributed import World
from model.train.options import add_options, gather
from model.train.runs import Run

#: What a command's namespace holds beside settings.
NOT_SETTINGS = {"command", "home", "config", "resume", "detach", "placeholder"}


@dataclass(frozen=True)
class Command:
    """One of `python -m model`'s training commands."""

    name: str  #: as it is typed; a resumed run is started with it
    classes: Sequence[type]  #: dataclasses whose fields are its settings
    #: (settings, home, world) -> all that was given, checked, with a name that all processes agree on.
    settle: Callable[[dict[str, Any], Path, World], dict[str, Any]]
    #: Trains a run that this process holds: (run, settings, home, world) -> exit status.
    train: Callable[[Run, Mapping[str, Any], Path, World], int]


def add_arguments(
    parser: argparse.ArgumentParser, classes: Sequence[type], help_of: Mapping[str, str]
) -> None:
    """The flags of a training command: a file of settings, resuming, the background, and one a setting."""
    parser.add_argument("--config", type=Path, metavar="FILE.toml", help="settings; flags win over them")
    parser.add_argument(
        "--resume", metavar="RUN", help="go on with a run that was stopped, as it was started"
    )
    parser.add_argument(
        "--detach", action="store_true", help="train in the background; survives this terminal"
    )
    add_options(parser, classes, help_of)


def settings(args: argparse.Namespace) -> dict[str, Any]:
    """The settings among the flags that were given."""
    return {key: value for key, value in vars(args).items() if key not in NOT_SETTINGS}


def run(command: Command, args: argparse.Namespace, given: Mapping[str, Any], home: Path) -> int:
    """Train; 0 done, 130 stopped and saved.

    Raises:
        ModelError: settings, data or weights that cannot be used, or a run that failed.
    """
    world = distributed.join()
    try:
        if args.detach and world.size > 1:
            raise TrainingError("--detach starts one process; leave it out under torchrun")
        if args.resume:
            if given or args.config:
                extra = f"--{next(iter(given))}" if given else "--config"
                raise TrainingError(f"--resume goes on as the run was started; leave out {extra}")
            this = runs.find(home, args.resume)
            if (started := this.config()["command"]) != command.name:
                raise TrainingError(
                    f"{this.name} is a run of {started}; resume it with `python -m model {started} "
                    f"--resume {this.name}`"
                )
            values = gather(command.classes, this.config()["settings"], None)
        else:
            values = command.settle(gather(command.classes, given, args.config), home, world)
            if world.first:
                runs.create(home, values["name"], {"command": command.name, "settings": values})
            world.wait()
            this = runs.find(home, values["name"])
        if args.detach:
            pid = runs.start(this, home)
            watch = f"python -m model runs attach {this.name}"
            sys.stdout.write(f"{this.name} is being trained by process {pid}. Watch it: {watch}\n")
            return 0
        if not world.first:
            return command.train(this, values, home, world)
        with this.held():
            return command.train(this, values, home, world)
    finally:
        distributed.leave()


def begin(command: Command, given: Mapping[str, Any], home: Path) -> Run:
    """A new run as the command would make it, for a process alone; `runs.launch` trains it.

    Raises:
        ModelError: a setting of another type or out of range, a name that is taken, a model not installed.
    """
    values = command.settle(gather(command.classes, given, None), home, distributed.join())
    return runs.create(home, values["name"], {"command": command.name, "settings": values})
