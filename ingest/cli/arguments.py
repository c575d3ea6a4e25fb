"""The arguments of `python -m ingest`. `python -m ingest ./docs` is short for `add ./docs`."""

from __future__ import annotations

import argparse
import threading
from collections.abc import Sequence

COMMANDS = {
    "add": "take in files and folders (what `python -m ingest PATH` does)",
    "search": "find passages",
    "list": "list the documents",
    "show": "print one document with its passages and warnings",
    "forget": "remove documents by path, folder or glob",
    "status": "size, embedder and generation of the collection",
    "verify": "check every hash and every count",
    "rebuild": "cut and embed anew from the stored text, also for another embedder",
    "collections": "list the collections",
    "export": "write the collection into one ZIP file with a manifest",
    "backup": "copy the collection's database, while it is in use",
    "import": "make a collection of an export or a backup",
}


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The arguments of one call; exits with 2 after a message where they make no sense."""
    return _parser().parse_args(_command_first(list(argv)))


def _seconds(text: str) -> float:
    """A time to wait; one without an end is as long as the system can wait."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not seconds >= 0:  # nor is NaN
        raise argparse.ArgumentTypeError(f"{text!r}: give a number of seconds, 0 or more")
    return min(seconds, threading.TIMEOUT_MAX)


def _command_first(argv: list[str]) -> list[str]:
    """Options may stand before the command; `add` may be left out, and a folder `list` is `./list`."""
    takes_value = {
        "--collection",
        "--home",
        "--wait",
        "--embedder",
        "--workers",
        "--engine",
        "--address",
        "--ocr",
        "--include",
        "--exclude",
        "--password",
        "--set",
        "--filter",
        "--chunking",
    }
    takes_value |= {"-k", "--mode", "--rerank"}
    at = 0
    while at < len(argv) and argv[at].startswith("-") and argv[at] != "--":
        at += 2 if argv[at] in takes_value else 1
    if at < len(argv) and argv[at] in COMMANDS:
        return [argv[at], *argv[:at], *argv[at + 1 :]]
    return ["add", *argv] if at < len(argv) else argv


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        prog="python -m ingest",
        description="Take in documents and search them. A path alone is short for: add PATH.",
        epilog="Exit status: 0 done, 1 some files failed or problems were found, "
        "2 wrong usage or nothing could be done, "
        "130 interrupted.",
    )
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument(
        "--collection", metavar="NAME", help="the collection (default: the setting, else 'default')"
    )
    shared.add_argument(
        "--home",
        metavar="FOLDER",
        help="the data folder (default: LOREBASE_HOME, else the nearest .lorebase)",
    )
    shared.add_argument("--json", action="store_true", help="print one JSON object a line")
    shared.add_argument(
        "--wait", type=_seconds, default=10.0, metavar="SECONDS", help="how long to wait for another writer"
    )
    commands = parser.add_subparsers(dest="command", metavar="command", required=True)
    made = {
        name: commands.add_parser(name, help=text, parents=[shared], allow_abbrev=False)
        for name, text in COMMANDS.items()
    }

    add = made["add"]
    add.add_argument("paths", nargs="+", metavar="PATH", help="files, folders and web pages (https://...)")
    add.add_argument(
        "--sync", action="store_true", help="forget documents whose files are gone from these folders"
    )
    add.add_argument(
        "--allow-empty",
        action="store_true",
        help="with --sync, forget also where a folder has become empty",
    )
    add.add_argument(
        "--watch", action="store_true", help="then follow these folders, as with --sync, until Ctrl-C"
    )
    add.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a field for every document of these paths: a number, date, text or [list]; may be repeated",
    )
    add.add_argument(
        "--retry", action="store_true", help="try also files that could not be read several times"
    )
    add.add_argument(
        "--include", action="append", default=[], metavar="GLOB", help="only files that fit; may be repeated"
    )
    add.add_argument(
        "--exclude", action="append", default=[], metavar="GLOB", help="no files that fit; may be repeated"
    )
    add.add_argument(
        "--workers", type=int, metavar="N", help="parser processes, or Ray workers (default: one a core)"
    )
    add.add_argument(
        "--engine", choices=("local", "ray"), help="who reads and embeds: this machine, or a Ray cluster"
    )
    add.add_argument("--address", metavar="ADDRESS", help="with --engine ray: the cluster, auto or HOST:PORT")
    add.add_argument(
        "--ocr",
        choices=("auto", "off", "force"),
        help="read text off pictures: of pages without a text layer (auto), never, of every PDF page",
    )
    add.add_argument("--embedder", metavar="ID", help="for a new collection: catalog name, hub id or folder")
    add.add_argument("--password", help="tried on encrypted files")

    search = made["search"]
    search.add_argument("words", nargs="+", help="a question or some words")
    search.add_argument("-k", type=int, metavar="N", help="how many passages (default: the setting, else 5)")
    search.add_argument("--mode", choices=("hybrid", "dense", "keyword"), default="hybrid")
    search.add_argument(
        "--rerank", metavar="ID", help="let this cross-encoder order the first passages: its name or folder"
    )

    for reads in (search, made["list"]):
        reads.add_argument(
            "--filter",
            metavar="EXPR",
            help='only documents that pass, as in: author = "Li" and year >= 2020 or tag in (a, b)',
        )

    made["show"].add_argument("path", metavar="PATH", help="path or id of a document")
    made["forget"].add_argument(
        "paths", nargs="+", metavar="PATH|GLOB", help="paths, folders or globs in quotes"
    )
    for name in ("export", "backup", "import"):
        made[name].add_argument("file", metavar="FILE")
    for cuts, when in ((add, "for a new collection"), (made["rebuild"], "from now on")):
        cuts.add_argument(
            "--chunking", metavar="TOKENS[-OVERLAP]", help=f"{when}: how long passages are, such as 224-32"
        )
    made["rebuild"].add_argument("--embedder", metavar="ID", help="move the collection to this embedder")
    return parser
