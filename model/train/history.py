"""`python -m model runs`: what was trained, its curves, and a look at what is being trained."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from tqdm import tqdm

from model.errors import TrainingError
from model.train import runs
from model.train.picture import draw
from model.train.runs import Run

#: Seconds between two looks at a run.
LOOK_EVERY_S = 0.5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The sub-commands of `runs`."""
    commands = parser.add_subparsers(dest="runs_command", required=True, metavar="command")

    def command(name: str, help: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=help)
        made.add_argument("--home", default=argparse.SUPPRESS, help="data folder")
        return made

    command("list", "all runs: state, progress, loss").add_argument("--json", action="store_true")
    for name, help in (
        ("plot", "draw a run's loss.png again"),
        ("attach", "follow a run until it ends; Ctrl-C leaves it running"),
        ("stop", "ask a run to save and end"),
    ):
        command(name, help).add_argument("name")


def run(args: argparse.Namespace, home: Path) -> int:
    """Do one of them; 0, or 1 where the run to attach to did not finish.

    Raises:
        TrainingError: no such run.
    """
    if args.runs_command == "list":
        return _list(home, as_json=args.json)
    this = runs.find(home, args.name)
    if args.runs_command == "attach":
        return _attach(this)
    if args.runs_command == "stop":
        _say(f"{this.name} saves and ends" if runs.stop(this) else f"{this.name} is not being trained")
        return 0
    file = this.path / "loss.png"
    if not draw(this.metrics(), this.name, file):
        raise TrainingError(f"{this.name} has no step behind it yet: there is nothing to draw")
    _say(str(file))
    return 0


def _list(home: Path, *, as_json: bool) -> int:
    found = [{"name": this.name} | this.status() | _last(this) for this in runs.every(home)]
    if as_json:
        _say(json.dumps(found, ensure_ascii=False, indent=1))
    elif not found:
        _say(f"no runs in {home / 'runs'}; begin one: python -m model sft --dataset NAME")
    else:
        width = max(len(one["name"]) for one in found)
        _say(f"{'run':<{width}}  {'state':<11}  {'step':>11}  {'loss':>7}  {'validation':>10}")
        for one in found:
            steps = f"{one.get('step', 0)}/{one.get('steps', '?')}"
            figures = [f"{one[key]:.4f}" if key in one else "" for key in ("loss", "eval_loss")]
            _say(
                f"{one['name']:<{width}}  {one['state']:<11}  {steps:>11}  {figures[0]:>7}  {figures[1]:>10}"
            )
    return 0


def _last(this: Run) -> dict[str, Any]:
    """The latest of each figure."""
    latest: dict[str, Any] = {}
    for event in this.metrics():
        latest |= {key: event[key] for key in ("step", "steps", "epoch", "loss", "eval_loss") if key in event}
    return latest


def _attach(this: Run) -> int:
    bar: tqdm | None = None
    seen = 0
    try:
        while True:
            alive = this.alive()  # asked first, so that nothing written before its end is missed
            for event in this.metrics()[seen:]:
                seen += 1
                if "eval_loss" in event:
                    tqdm.write(
                        f"step {event['step']}: validation loss {event['eval_loss']:.4f}", file=sys.stderr
                    )
                    continue
                if (
                    bar is None
                ):  # from where the run is now, so that the rest is judged by the pace from now on
                    now = max(one["step"] for one in this.metrics())
                    bar = tqdm(total=event["steps"], initial=now, unit="step", file=sys.stderr, disable=None)
                bar.set_postfix_str(
                    f"loss {event['loss']:.4f}, {event['tokens_per_s']:.0f} tokens/s", refresh=False
                )
                bar.update(max(event["step"] - bar.n, 0))
            if not alive:
                break
            time.sleep(LOOK_EVERY_S)
    except KeyboardInterrupt:
        _say(f"\n{this.name} goes on without a watcher")
        return 0
    finally:
        if bar is not None:
            bar.close()
    status = this.status()
    _say(f"{this.name}: {status['state']}" + (f": {status['message']}" if "message" in status else ""))
    return 0 if status["state"] == "finished" else 1


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
