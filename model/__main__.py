"""`python -m model`: fetch weights, list and inspect what is there, generate on a terminal."""

from __future__ import annotations

import argparse
import importlib
import io
import os
import subprocess
import sys
from pathlib import Path

from ingest.cli.ending import ended
from ingest.errors import IngestError
from ingest.settings import find_home
from model import install, report
from model.errors import ModelError
from model.shelf import TRAINED_ON

# libgomp's threads spin while they wait, and starve whoever wants their core: on a busy machine a decode
# step took 800 ms instead of 40. Read once, when torch is imported.
os.environ.setdefault("GOMP_SPINCOUNT", "2000")

#: Commands whose modules bring `add_arguments` and `run`, and load only when they are called.
OWN_MODULES = {
    "tokenizer": ("model.tokenizing.command", "train a tokenizer on your own text, inspect and compare"),
    "pretrain": ("model.train.pretrain", "train a model from nothing on your own text"),
    "dpo": ("model.preferences.dpo", "learn from pairs of a chosen and a rejected reply"),
    "reward": ("model.preferences.reward", "a head that tells good replies from bad ones"),
    "grpo": ("model.preferences.grpo", "make replies with a high reward likelier"),
    "classify": ("model.heads.classify", "train a classifier, or see how good one is"),
    "distill": ("model.distill.command", "let a small model learn from a larger one"),
    "evaluate": ("model.evaluate.command", "perplexity, exact matches, and a judge before against after"),
}
#: Those of them that may ask an Ollama, and are told where it is.
ASK_OLLAMA = ("distill", "evaluate")


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    given = sys.argv[1:] if argv is None else argv
    for stream in (sys.stdin, sys.stdout):  # a character that the terminal's encoding lacks ends nothing
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace" if stream is sys.stdin else "backslashreplace")
    arguments = _parser(given).parse_args(given)
    return ended(lambda: _dispatch(arguments), (ModelError, IngestError), failed=1)


def _dispatch(arguments: argparse.Namespace) -> int:
    home = Path(arguments.home).expanduser().resolve() if arguments.home else find_home()
    if arguments.command == "pull":
        return _pull(arguments, home)
    if arguments.command == "generate":
        from model.engine import terminal

        return terminal.run(arguments, home)
    if arguments.command == "data":
        from model.data import command

        return command.run(arguments, home)
    if arguments.command == "sft":
        from model.train import sft

        return sft.run(arguments, home)
    if arguments.command in OWN_MODULES:
        module = importlib.import_module(OWN_MODULES[arguments.command][0])
        where = (_ollama_address(),) if arguments.command in ASK_OLLAMA else ()
        status: int = module.run(arguments, home, *where)
        return status
    if arguments.command == "runs":
        from model.train import history

        return history.run(arguments, home)
    if arguments.command == "merge":
        from model import merge_command

        return merge_command.run(arguments, home)
    if arguments.command == "export":
        from model.export import command as export_command

        return export_command.run(arguments, home, _ollama_address())
    if arguments.command == "list":
        text, damaged = report.listing(home, lambda folder: _stale(folder, home)), False
    elif arguments.attention is not None:
        from model import attention

        file = arguments.out or Path(f"{arguments.name}-attention.png")
        text, damaged = (
            str(attention.inspect(install.find(arguments.name, home), arguments.attention, file)),
            False,
        )
    else:
        text, damaged = report.inspection(install.find(arguments.name, home), verify=arguments.verify)
    print(text, flush=True)
    return 1 if damaged else 0


def _parser(given: list[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m model", description="Language models and embedders of this machine."
    )
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument(
        "--home", help="data folder; default: LOREBASE_HOME, or the nearest .lorebase upwards from here"
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    pull = commands.add_parser(
        "pull", parents=[shared], help="fetch weights: a catalog name, a hub id, a folder or a .gguf file"
    )
    pull.add_argument("sources", nargs="+", metavar="NAME|hub-id|path")
    pull.add_argument("--name", help="install under this name (for one source)")
    commands.add_parser("list", parents=[shared], help="what is installed and what the catalog offers")
    inspect = commands.add_parser(
        "inspect", parents=[shared], help="parameters, bytes, window and cache of a model"
    )
    inspect.add_argument("name")
    inspect.add_argument(
        "--verify", action="store_true", help="hash every file and compare with the manifest"
    )
    inspect.add_argument(
        "--attention", metavar="TEXT", help="draw what each layer and head looks at while it reads this text"
    )
    inspect.add_argument(
        "--out", type=Path, metavar="FILE", help="the picture; default: NAME-attention.png here"
    )
    generate = commands.add_parser("generate", parents=[shared], help="complete a prompt, or chat")
    if given[:1] == ["generate"]:  # only then, for its arguments live beside the engine
        from model.engine import terminal

        terminal.add_arguments(generate)
    data = commands.add_parser("data", parents=[shared], help="check training sets")
    if given[:1] == ["data"]:
        from model.data import command

        command.add_arguments(data)
    sft = commands.add_parser(
        "sft", parents=[shared], help="fine-tune on conversations: an adapter, or in full"
    )
    if given[:1] == ["sft"]:
        from model.train import sft as sft_command

        sft_command.add_arguments(sft)
    for name, (module, help_text) in OWN_MODULES.items():
        own = commands.add_parser(name, parents=[shared], help=help_text)
        if given[:1] == [name]:
            importlib.import_module(module).add_arguments(own)
    runs = commands.add_parser("runs", parents=[shared], help="list, plot, attach to and stop training runs")
    if given[:1] == ["runs"]:
        from model.train import history

        history.add_arguments(runs)
    merge = commands.add_parser("merge", parents=[shared], help="fold an adapter into its base")
    if given[:1] == ["merge"]:
        from model import merge_command

        merge_command.add_arguments(merge)
    export = commands.add_parser(
        "export", parents=[shared], help="write it for transformers, llama.cpp, Ollama"
    )
    if given[:1] == ["export"]:
        from model.export import command as export_command

        export_command.add_arguments(export)
    return parser


def _ollama_address() -> str:
    """`OLLAMA_HOST` as its owner means it; a form to bind is turned into one to call."""
    host = os.environ.get("OLLAMA_HOST", "").strip() or "127.0.0.1:11434"
    return host.replace("0.0.0.0", "127.0.0.1", 1)  # noqa: S104 - an address to call, not to bind


def _pull(arguments: argparse.Namespace, home: Path) -> int:
    if arguments.name and len(arguments.sources) > 1:
        print("error: --name goes with one source", file=sys.stderr)
        return 2
    status = 0
    for source in arguments.sources:
        try:
            done = install.pull(
                source,
                home,
                name=arguments.name,
                say=lambda line: print(line, file=sys.stderr, flush=True),
                output=_descriptor(),
            )
        except ModelError as error:  # the others may still be had
            print(f"error: {error}", file=sys.stderr, flush=True)
            status = 1
        else:
            print(
                f"{done.name}: {'installed in' if done.fresh else 'is there already:'} {done.path}",
                flush=True,
            )
    return status


def _descriptor() -> int:
    """Where pip's progress bar goes: our own stderr, if it is a file at all."""
    try:
        return sys.stderr.fileno()
    except (OSError, AttributeError):
        return subprocess.DEVNULL


def _stale(adapter: Path, home: Path) -> str | None:
    """Why an adapter is out of date with the documents that it was trained on; None where it is not."""
    if not (adapter / TRAINED_ON).is_file():
        return None  # without loading the index
    from service.tuning import trained_on  # which documents there are now is the index's to say

    return trained_on.stale(adapter, home)


if __name__ == "__main__":
    sys.exit(main())
