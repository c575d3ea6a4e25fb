"""`python -m model data check`: a look at training sets before training."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from model import install
from model.chat import ChatTemplate
from model.data.check import QUANTILES, Report, check
from model.data.histogram import bars, picture
from model.data.sets import DataConfig
from model.errors import DataError, UnsupportedModel
from model.layout import TOKENIZER_FILE, read_config
from model.tokenizer import Tokenizer

DEFAULT_MODEL = "smollm2-135m-instruct"
#: Places that a finding lists on the terminal, and findings of a kind.
SHOWN, FINDINGS_SHOWN = 5, 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The sub-commands of `data`."""
    commands = parser.add_subparsers(dest="data_command", required=True, metavar="command")
    checking = commands.add_parser(
        "check",
        help="duplicates, empty replies, over-long rows, leaks, supervised share, lengths",
        description="Exit status 1 where something must be mended.",
    )
    add = checking.add_argument
    add("dataset", nargs="+", help="names in dataset_info.json, or paths of .json and .jsonl files")
    add("--home", default=argparse.SUPPRESS, help="data folder")
    add("--dataset_dir", "--dataset-dir", type=Path, default=Path("data"), help="where dataset_info.json is")
    add("--eval_dataset", "--eval-dataset", nargs="+", default=[], help="sets to validate on")
    add("--val_size", "--val-size", type=float, default=0.0, help="share or number of rows to validate on")
    add("--max_samples", "--max-samples", type=int, help="rows of each set")
    add(
        "--cutoff_len",
        "--cutoff-len",
        type=int,
        help="tokens; default: 2048, or the model's window if shorter",
    )
    add("--too_long", "--too-long", choices=["truncate", "drop"], default="truncate")
    add(
        "--placeholder",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="what stands for {{name}} or {{author}}",
    )
    add("--model", default=DEFAULT_MODEL, help="whose tokenizer counts; default: %(default)s")
    add("--picture", type=Path, help="histogram of lengths (.png); default: HOME/data/SET-lengths.png")
    add("--json", action="store_true", help="the whole report as JSON; a picture only if asked for")


def run(args: argparse.Namespace, home: Path) -> int:
    """Check the sets; 0 where nothing must be mended, else 1.

    Raises:
        ModelError: the model's tokenizer or template cannot be used, or the picture cannot be written.
    """
    folder = install.find(args.model, home)
    config, metadata = read_config(folder)
    jinja = metadata.get("chat_template")
    if not jinja:
        raise UnsupportedModel(f"{args.model} has no chat template; give --model one that has")
    report = check(
        DataConfig(
            dataset=tuple(args.dataset),
            dataset_dir=args.dataset_dir,
            eval_dataset=tuple(args.eval_dataset),
            val_size=args.val_size,
            max_samples=args.max_samples,
            cutoff_len=args.cutoff_len or min(2048, config.context_length),
            too_long=args.too_long,
            placeholders=dict(_pair(given) for given in args.placeholder),
        ),
        ChatTemplate.recognise(jinja, source=args.model),
        Tokenizer.from_file(folder / TOKENIZER_FILE),
    )
    target = args.picture
    if target is None and not args.json:
        target = home / "data" / f"{Path(args.dataset[0]).name.split('.')[0]}-lengths.png"
    if target is not None and report.lengths:
        picture(report.lengths, report.cutoff_len, target)
    if args.json:
        sys.stdout.write(json.dumps(report.to_dict(), ensure_ascii=False, indent=1) + "\n")
    else:
        sys.stdout.write("\n".join([*_lines(report), *_picture_line(report, target)]) + "\n")
    return 1 if report.errors else 0


def _lines(report: Report) -> list[str]:
    lines = list(report.sets)
    if report.lengths:
        counts = report.counts
        quantiles = ", ".join(f"{name} {report.quantile(share)}" for name, share in QUANTILES.items())
        lines += ["", f"{report.train} examples to train on, {report.validation} to validate on: {counts}"]
        if counts.unshared_tokens > counts.tokens:
            saved = counts.unshared_tokens / counts.tokens
            lines.append(f"shared passages are read once: {saved:.1f} times fewer tokens")
        lines += ["", f"tokens of a conversation: {quantiles}", *bars(report.lengths, report.cutoff_len)]
    lines.append("")
    warnings = [finding for finding in report.findings if finding.kind == "warning"]
    for findings in (report.errors, warnings):
        for finding in findings[:FINDINGS_SHOWN]:
            lines.append(f"{finding.kind}: {finding.what}")
            lines += [f"    {place}" for place in finding.where[:SHOWN]]
            if len(finding.where) > SHOWN:
                lines.append(f"    and {len(finding.where) - SHOWN} more (--json lists all)")
        if len(findings) > FINDINGS_SHOWN:
            lines.append(f"and {len(findings) - FINDINGS_SHOWN} more {findings[0].kind}s (--json lists all)")
    lines.append(f"{_count(len(report.errors), 'error')}, {_count(len(warnings), 'warning')}")
    return lines


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _picture_line(report: Report, target: Path | None) -> list[str]:
    return [f"picture: {target}"] if target is not None and report.lengths else []


def _pair(given: str) -> tuple[str, str]:
    name, sign, value = given.partition("=")
    if not sign:
        raise DataError(f"--placeholder takes NAME=VALUE, got {given!r}")
    return name, value
