"""`python -m model tokenizer`: train one on one's own text, look at one, compare several."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import get_args

from model.data.shards.texts import Problems, Separate, files, texts
from model.errors import TokenizerError, UnsupportedModel
from model.folder import sha256_file
from model.formats.bpe import PRE_TOKENIZERS
from model.tokenizer import Tokenizer
from model.tokenizing import compare, shelf
from model.tokenizing.train import DEFAULT_SIZE, Kind, train

SAMPLE = "unhappiness: I do not know it. 不知道，12345"
#: Characters of the texts that are encoded to measure speed, and of one of them.
MEASURED, EACH = 2_000_000, 4_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The sub-commands of `tokenizer`."""
    commands = parser.add_subparsers(dest="tokenizer_command", required=True, metavar="command")

    def command(name: str, help: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=help)
        made.add_argument("--home", default=argparse.SUPPRESS, help="data folder")
        return made

    training = command("train", "learn a vocabulary from texts")
    training.add_argument(
        "paths", nargs="+", metavar="PATH", help="files and folders: raw text, JSONL, parquet"
    )
    training.add_argument("--kind", choices=get_args(Kind), default="bpe", help="default: %(default)s")
    training.add_argument("--name", help="kept under this name; default: kind and time")
    training.add_argument(
        "--vocab_size", "--vocab-size", type=int, metavar="N",
        help=f"most tokens (default: {DEFAULT_SIZE}; char: every character that is seen)",
    )  # fmt: skip
    training.add_argument(
        "--rule",
        choices=tuple(PRE_TOKENIZERS),
        default="gpt-2",
        help="how bpe cuts before it merges; default: %(default)s",
    )
    training.add_argument(
        "--min_frequency", "--min-frequency", type=int, default=2, metavar="N",
        help="how often a pair or word must be seen; default: %(default)s",
    )  # fmt: skip
    training.add_argument("--column", default="text", help="where rows hold their text; default: %(default)s")
    training.add_argument(
        "--separate",
        choices=get_args(Separate),
        default="file",
        help="what of a raw text is a text; default: %(default)s",
    )
    looking = command("inspect", "what a tokenizer is made of")
    looking.add_argument("tokenizer", help="a trained one, an installed model's, or a path")
    looking.add_argument("--text", default=SAMPLE, help="shown as it cuts it")
    comparing = command("compare", "how several cut a text, and how fast four libraries encode")
    comparing.add_argument("tokenizers", nargs="+", help="trained ones, installed models', or paths")
    comparing.add_argument("--text", default=SAMPLE, help="to cut")
    comparing.add_argument("--file", type=Path, help="to measure speed on; without one no speed is measured")
    comparing.add_argument("--rounds", type=int, default=5, help="of the measurement; default: %(default)s")
    comparing.add_argument("--json", action="store_true")


def run(args: argparse.Namespace, home: Path) -> int:
    """Do one of them; 0.

    Raises:
        ModelError: texts or tokenizers that cannot be used.
    """
    return {"train": _train, "inspect": _inspect, "compare": _compare}[args.tokenizer_command](args, home)


def _train(args: argparse.Namespace, home: Path) -> int:
    name = args.name or f"{args.kind}-{time.strftime('%Y%m%d-%H%M%S')}"
    shelf.free(name, home)  # before minutes of training, not behind them
    problems, found = Problems(), files(args.paths)

    def every() -> Iterator[str]:
        for file in found:
            yield from texts(file, column=args.column, separate=args.separate, problems=problems)

    try:
        made = train(
            every(), args.kind, vocab_size=args.vocab_size, rule=args.rule, min_frequency=args.min_frequency
        )
    except TokenizerError as error:
        raise TokenizerError(f"{error}; {problems.lines[0]}" if problems.lines else str(error)) from error
    about = {"tokenizer_kind": args.kind, "trained_on": [path.name for path in found]}
    target = shelf.save(made, name, home, about)
    for line in problems.lines[:5]:
        sys.stderr.write(f"left out: {line}\n")
    if problems.count > 5:
        sys.stderr.write(f"left out: {problems.count - 5} more\n")
    _say(f"{name}: {made.get_vocab_size():,} tokens ({args.kind}) from {len(found)} files, in {target}")
    _say(str(compare.cut(name, target / "tokenizer.json", SAMPLE)))
    if args.kind in ("bpe", "char"):
        _say(f"pretrain on it: python -m model pretrain --tokenizer {name} --dataset {args.paths[0]}")
    return 0


def _inspect(args: argparse.Namespace, home: Path) -> int:
    file = shelf.find(args.tokenizer, home)
    made = shelf.library(file)
    spec = json.loads(file.read_text(encoding="utf-8"))
    special = [token["content"] for token in spec.get("added_tokens", [])]
    _say(f"{args.tokenizer}: {spec['model'].get('type', 'BPE')}, {made.get_vocab_size():,} tokens, in {file}")
    _say(f"  SHA-256: {sha256_file(file)}")
    _say(f"  special tokens: {', '.join(special) or 'none'}")
    _say(f"  merges: {len(spec['model'].get('merges', [])):,}")
    try:
        ours = Tokenizer.from_file(file)
    except UnsupportedModel:
        _say("  not byte-level BPE: other programs read it, models are not pretrained on it here")
        longest = sorted(made.get_vocab(), key=len, reverse=True)[:8]
    else:
        decoded = (data.decode("utf-8", "replace") for data in ours.ordinary.values())
        longest = sorted(decoded, key=len, reverse=True)[:8]
    _say(f"  longest tokens: {', '.join(map(repr, longest))}")
    _say(f"  {compare.cut(args.tokenizer, file, args.text)}")
    return 0


def _compare(args: argparse.Namespace, home: Path) -> int:
    found = {name: shelf.find(name, home) for name in args.tokenizers}
    cuts = [compare.cut(name, file, args.text) for name, file in found.items()]
    measured: dict[str, list[compare.Speed]] = {}
    if args.file is not None:
        sample = _pieces(args.file)
        measured = {name: compare.speeds(file, sample, max(args.rounds, 1)) for name, file in found.items()}
    if args.json:
        told = {
            "text": args.text,
            "cuts": [{"tokenizer": one.name, "tokens": one.pieces, "unknown": one.unknown} for one in cuts],
            "speeds": {
                name: [
                    {"library": s.name, "mb_per_s": s.mb_per_s, "ratio": s.ratio, "tokens": s.tokens}
                    for s in rows
                ]
                for name, rows in measured.items()
            },
        }
        _say(json.dumps(told, ensure_ascii=False, indent=1))
        return 0
    for one in cuts:
        _say(str(one))
    for name, rows in measured.items():
        _say(f"\n{name}, encoding {args.file.name} in texts of {EACH:,} characters, in turn:")
        for row in rows:
            _say(f"  {row}")
    return 0


def _pieces(file: Path) -> Sequence[str]:
    """The file's first texts, of a length that all libraries are used with."""
    problems, pieces, held = Problems(), [], 0
    for text in texts(*files([file]), column="text", separate="file", problems=problems):
        for at in range(0, len(text), EACH):
            pieces.append(text[at : at + EACH])
            held += len(pieces[-1])
            if held >= MEASURED:
                return pieces
    if not pieces:
        raise TokenizerError(problems.lines[0] if problems.lines else f"{file} holds no text")
    return pieces


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
