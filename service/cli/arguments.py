"""The command line of `python -m service`."""

from __future__ import annotations

import argparse
from pathlib import Path

from service.keys import ROLES

MODES = "base,finetuned,rag,rag+finetuned,grounded"
EPILOG = """Settings come from lorebase.toml [service], LOREBASE_SERVICE_* and these flags; later ones win.
Exit status: 0 answered, refused or stopped; 2 it could not be done."""


def parse(argv: list[str]) -> argparse.Namespace:
    """The arguments; `command` is `serve` where none is named."""
    parser = argparse.ArgumentParser(
        prog="python -m service",
        description="Serve the API and the page, or ask, compare and classify on the terminal.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(command="serve")
    parser.add_argument("--host", help="address to listen on (anything but loopback needs a key file)")
    parser.add_argument("--port", type=int, help="port to listen on")
    _shared(parser)
    commands = parser.add_subparsers(
        title="commands", metavar="{ask,evaluate,tune,calibrate,classify,keys,database,mcp,settings}"
    )
    ask = commands.add_parser("ask", help="ask one question", description="Ask one question on the terminal.")
    ask.set_defaults(command="ask")
    ask.add_argument("question")
    ask.add_argument("--k", "-k", type=int, help="passages to retrieve")
    ask.add_argument("--mode", choices=("rag", "closed_book", "quote"), default="rag")
    ask.add_argument(
        "--reading",
        choices=("each", "joint"),
        help="every passage apart, or all in one prompt (default: each)",
    )
    ask.add_argument("--search-mode", choices=("hybrid", "dense", "keyword"))
    ask.add_argument("--filter", metavar="EXPR", help="only documents that pass, as in: year >= 2020")
    ask.add_argument(
        "--rerank",
        action=argparse.BooleanOptionalAction,
        help="let the setting `reranker` order the first passages anew (default: as set)",
    )
    ask.add_argument(
        "--context",
        choices=("passage", "section"),
        help="read passages, or the sections that they were cut from (default: passage)",
    )
    ask.add_argument("--max-tokens", type=int, help="longest generated answer")
    ask.add_argument("--acceptable-error", type=float, help="share of answers that may be wrong, such as 0.1")
    ask.add_argument("--json", action="store_true", help="print the whole response as JSON")
    ask.add_argument(
        "--follow", action="store_true", help="go on asking, line by line; follow-up questions are understood"
    )
    _shared(ask, argparse.SUPPRESS)
    _evaluate(commands)
    _tune(commands)
    _calibrate(commands)
    _classify(commands)
    _keys(commands)
    _database(commands)
    _mcp(commands)
    _settings(commands)
    return parser.parse_args(argv)


def _evaluate(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    evaluate = commands.add_parser(
        "evaluate",
        help="compare ways of answering on questions with known answers",
        description="Ask the same questions in several modes and write a report: table, JSON and a page.",
        epilog="Exit status: 0 complete; 1 a question or a mode failed; 2 it could not begin; "
        "130 interrupted (the same command goes on where it stopped).",
    )
    evaluate.set_defaults(command="evaluate")
    evaluate.add_argument(
        "--questions", type=Path, required=True, help="JSON lines, SQuAD's JSON or RGB's lines, also .gz"
    )
    evaluate.add_argument(
        "--modes", default=MODES, help=f"comma-separated, also ollama/NAME (default: {MODES})"
    )
    evaluate.add_argument("--corpus", help="only questions about this corpus")
    evaluate.add_argument("--limit", type=int, help="only the first N questions")
    evaluate.add_argument("--out", type=Path, help="folder for the report (default: in the data folder)")
    evaluate.add_argument("--finetuned", metavar="ADAPTER", help="the adapter that was trained closed-book")
    evaluate.add_argument(
        "--judge", metavar="ollama/NAME", help="let a model of Ollama rate the answers, too"
    )
    evaluate.add_argument("--k", "-k", type=int, help="passages that a question retrieves")
    evaluate.add_argument("--search-mode", choices=("hybrid", "dense", "keyword"))
    evaluate.add_argument("--max-tokens", type=int, help="longest generated answer")
    evaluate.add_argument(
        "--noise", default="0,0.4,0.8", help="noise rates of RGB's questions (default: %(default)s)"
    )
    evaluate.add_argument(
        "--passages",
        choices=("own", "collection"),
        default="own",
        help="own: those that questions bring, if they bring any; collection: always retrieve",
    )
    evaluate.add_argument("--again", action="store_true", help="ask anew what has been asked before")
    _shared(evaluate, argparse.SUPPRESS)


def _tune(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    tune = commands.add_parser(
        "tune",
        help="train an adapter on questions about a collection, and compare it",
        description="Write questions on a collection's passages, keep those that the reader answers back, "
        "train an adapter on them, and compare it on documents that were held out.",
        epilog="Exit status: 0 done; 1 the comparison lacks something; 2 it could not be done; "
        "130 interrupted (the same command goes on where it stopped).",
    )
    tune.set_defaults(command="tune")
    tune.add_argument("--teacher", metavar="ollama/NAME", help="let a model of Ollama write the questions")
    tune.add_argument(
        "--max-pairs", type=int, default=400, help="end writing at so many pairs (default: %(default)s)"
    )
    tune.add_argument("--steps", type=int, help="of training (default: eight passes through the pairs)")
    tune.add_argument("--seed", type=int, default=0, help="of spans, split and training")
    tune.add_argument(
        "--compare",
        type=int,
        default=100,
        metavar="N",
        help="ask at most N held-out questions; 0: compare nothing (default: %(default)s)",
    )
    tune.add_argument("--merge", action="store_true", help="fold the adapter into a model of its own, too")
    tune.add_argument("--dry-run", action="store_true", help="say what there is to do and how long it takes")
    _shared(tune, argparse.SUPPRESS)


def _calibrate(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    calibrate = commands.add_parser(
        "calibrate",
        help="learn on a collection's own questions how likely its answers are right",
        description="Ask questions with known answers, each once more with its document left out, and "
        "questions of other collections; fit the collection's own calibrator and compare the two.",
        epilog="Exit status: 0 written; 1 the shipped one is no worse and stays; 2 it could not be done; "
        "130 interrupted (the same command goes on where it stopped).",
    )
    calibrate.set_defaults(command="calibrate")
    calibrate.add_argument(
        "--questions", type=Path, help="as evaluate reads them; without it those that tune has kept"
    )
    calibrate.add_argument("--corpus", help="only questions about this corpus")
    calibrate.add_argument("--limit", type=int, help="only the first N questions")
    calibrate.add_argument("--foreign", type=Path, help="questions that the collection does not answer")
    calibrate.add_argument(
        "--acceptable-error", type=float, help="share of answers that may be wrong, such as 0.1"
    )
    calibrate.add_argument("--k", "-k", type=int, help="passages that a question retrieves")
    calibrate.add_argument("--force", action="store_true", help="write it even if it looks worse")
    calibrate.add_argument("--json", action="store_true", help="print the figures as JSON")
    _shared(calibrate, argparse.SUPPRESS)


def _classify(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "classify",
        help="give texts a label",
        description="Give each text one of the labels of a named classifier, or of a file of examples.",
    )
    parser.set_defaults(command="classify")
    parser.add_argument("texts", nargs="+", metavar="TEXT", help="a text; - reads lines from standard input")
    by = parser.add_mutually_exclusive_group()
    by.add_argument("--classifier", help="a named classifier (default: finance-zh)")
    by.add_argument("--classes", type=Path, metavar="FILE.json", help='{"label": ["example", ...], ...}')
    parser.add_argument("--instruction", help="what the model is told")
    parser.add_argument("--abstain-below", type=float, help="no label below this probability")
    parser.add_argument(
        "--likelihood", choices=("auto", "on", "off"), default="auto", help="whether the model scores labels"
    )
    parser.add_argument("--include-prompt", action="store_true", help="with --json: what a model reads")
    parser.add_argument("--json", action="store_true", help="print the whole reply as JSON")
    _shared(parser, argparse.SUPPRESS)


def _mcp(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "mcp",
        help="be a tool of an assistant that speaks MCP",
        description="Answer a client of the Model Context Protocol on standard input and output. The client "
        "starts this command itself.",
    )
    parser.set_defaults(command="mcp")
    _shared(parser, argparse.SUPPRESS)


def _settings(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "settings",
        help="every setting, its value and where it came from",
        description="Shows what the service would use: flags over LOREBASE_* variables over lorebase.toml "
        "over defaults. No key is shown; keys are in files and in the data folder.",
    )
    parser.set_defaults(command="settings")
    parser.add_argument("--host", help=argparse.SUPPRESS, default=argparse.SUPPRESS)
    parser.add_argument("--port", help=argparse.SUPPRESS, default=argparse.SUPPRESS, type=int)
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.add_argument("--explain", action="store_true", help="with what each one means")
    _shared(parser, argparse.SUPPRESS)


def _keys(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "keys",
        help="make, list and revoke keys",
        description="Keys with a role. As long as there is one, every request needs one; a running service "
        "knows at once.",
    )
    parser.set_defaults(command="keys")
    actions = parser.add_subparsers(dest="action", metavar="{create,list,revoke,forget}", required=True)
    create = actions.add_parser("create", help="make a key and print it, once")
    create.add_argument("name", help="whose it is, such as a person or a program")
    create.add_argument(
        "--role",
        choices=ROLES,
        default="reader",
        help="reader: ask, search, read; editor: also change documents; admin: everything (default: reader)",
    )
    create.add_argument("--collections", metavar="A,B", help="only these collections (default: all)")
    listed = actions.add_parser("list", help="all keys, without their secrets")
    listed.add_argument("--json", action="store_true")
    actions.add_parser("revoke", help="make a key void").add_argument("key", help="its name or id")
    actions.add_parser(
        "forget", help="take a revoked key off the list, with the conversations kept for it"
    ).add_argument("key", help="its name or id")
    for action in actions.choices.values():
        _home(action)


def _database(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "database",
        help="move keys and conversations to a database that several services share",
        description="Copy the keys and conversations of service.sqlite in the data folder into the "
        "PostgreSQL that the setting database names. May be repeated; the file is only read.",
    )
    parser.set_defaults(command="database")
    copy = parser.add_subparsers(dest="action", metavar="{copy}", required=True).add_parser(
        "copy", help="copy them"
    )
    copy.add_argument("--json", action="store_true")
    _home(copy)


def _home(parser: argparse.ArgumentParser, default: object = argparse.SUPPRESS) -> None:
    parser.add_argument(
        "--home", default=default, help="data folder; by default LOREBASE_HOME or the nearest .lorebase"
    )


def _shared(parser: argparse.ArgumentParser, default: object = None) -> None:
    _home(parser, default)
    parser.add_argument("--collection", default=default)
    parser.add_argument(
        "--model", default=default, help="an installed MODEL or MODEL+ADAPTER, or ollama/NAME"
    )
