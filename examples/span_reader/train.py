"""Train the span reader; see README.md beside this file.

    python -m examples.span_reader.train [--name span-reader] [--data FOLDER] [--home HOME] [--epochs 1]
        [--learning-rate 3e-4] [--batch 32] [--limit PAIRS] [--begin READER]
    python -m examples.span_reader.train --resume --name span-reader

The trainer's one loop over pairs of states: a run below LOREBASE_HOME/runs like any other, which saves every
few minutes, stops at Ctrl-C or a signal, and goes on with --resume. `python -m model runs list` shows it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file
from torch import Tensor

from examples.span_reader.build import ENCODER, LOWER_LAYERS
from ingest.settings import find_home
from model import install
from model.config import TrainConfig
from model.spans.data import SpanBatches, SpanSet
from model.spans.encoder import read_encoder
from model.spans.folder import unpacked
from model.spans.network import SpanNet, span_loss
from model.train import distributed, precision, runs, session
from model.train.loop import Outcome, fit
from model.train.state import Store, write_tensors

WEIGHTS = "spans.safetensors"


def export(target: Path, parameters: Mapping[str, Tensor]) -> None:
    """What a checkpoint holds beside the loop's own state."""
    write_tensors(target / WEIGHTS, parameters)


def begin(net: SpanNet, folder: Path) -> None:
    """Put a reader's layers on top of the net's, whose lower ones stay the encoder's, and its head."""
    state = unpacked(load_file(folder / WEIGHTS))
    more = len(net.blocks) - len({name.split(".")[1] for name in state if name.startswith("blocks.")})

    def above(name: str) -> str:
        part, number, *rest = name.split(".")
        return ".".join((part, str(int(number) + more), *rest)) if part == "blocks" else name

    net.load_state_dict({above(name): tensor for name, tensor in state.items()}, strict=False)


def train(run: runs.Run, settings: Mapping[str, Any], home: Path) -> int:
    encoder = read_encoder(install.find(ENCODER, home))
    spans = SpanSet(Path(settings["data"]), encoder.config.width)
    learned = [pair for pair in spans.pairs if not pair.held][: settings["limit"]]
    batches = SpanBatches(spans, learned, settings["batch"], settings["seed"])
    held = SpanBatches(spans, [pair for pair in spans.pairs if pair.held][:400], settings["batch"], 0)
    config = TrainConfig(
        learning_rate=settings["learning_rate"],
        num_train_epochs=settings["epochs"],
        warmup_ratio=0.06,
        weight_decay=0.01,
        lr_scheduler_type="linear",
        eval_steps=100,
        save_steps=50,
        seed=settings["seed"],
    )
    world = distributed.join()
    store = Store(
        run.checkpoints,
        export,
        {
            "data": spans.fingerprint(),
            "base": encoder.fingerprint(),
            "settings": repr(sorted(settings.items())),
        },
    )

    def go(progress: session.Progress, stop: session.Stop) -> Outcome:
        net = SpanNet.fresh(encoder, encoder.config.n_layers - LOWER_LAYERS, settings["seed"])
        if settings["begin"]:
            begin(net, Path(settings["begin"]))
        run.forget_after(store.step())
        return fit(
            # The loop asks of a model its parameters and `blocks`, of a batch `tokens` and `to`.
            cast(Any, net),
            cast(Any, span_loss),
            cast(Any, batches),
            config,
            validation=cast(Any, held),
            dtype=precision.choose("auto", torch.device("cpu")),
            world=world,
            store=store,
            report=progress,
            stop=stop,
        )

    return session.train(run, world, go, lambda: f"weights: {store.weights()}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--name", default="span-reader")
    parser.add_argument("--home", type=Path, help="data folder; default: the one in use")
    parser.add_argument("--data", type=Path, help="default: datasets/span-reader in the data folder")
    parser.add_argument("--epochs", type=float, default=1.0)
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--limit", type=int, help="most pairs to learn from")
    parser.add_argument("--begin", help="folder of a reader: its layers are the upper ones to begin with")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true", help="go on with the run of that name")
    args = parser.parse_args()
    home = args.home or find_home()
    if args.resume:
        run = runs.find(home, args.name)
    else:
        settings = {k: v for k, v in vars(args).items() if k not in ("home", "resume", "name")}
        settings["data"] = str((args.data or home / "datasets" / "span-reader").resolve())
        run = runs.create(home, args.name, {"command": "span-reader"} | settings)
    settings = {k: v for k, v in run.config().items() if k != "command"}
    with run.held():
        sys.exit(train(run, settings, home))


if __name__ == "__main__":
    main()
