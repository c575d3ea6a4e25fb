"""The command line of `python -m service`."""

from __future__ import annotations

import argparse

EPILOG = """Settings come from lorebase.toml [service], LOREBASE_SERVICE_* and these flags; later ones win.
Exit status: 0 answered, refused or stopped; 2 it could not be done."""


def parse(argv: list[str]) -> argparse.Namespace:
    """The arguments; `command` is `serve` where none is named."""
    parser = argparse.ArgumentParser(
        prog="python -m service",
        description="Serve the API and the page, or ask one question on the terminal.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(command="serve")
    parser.add_argument("--host", help="address to listen on (loopback only)")
    parser.add_argument("--port", type=int, help="port to listen on")
    _shared(parser)
    commands = parser.add_subparsers(title="commands", metavar="{ask}")
    ask = commands.add_parser("ask", help="ask one question", description="Ask one question on the terminal.")
    ask.set_defaults(command="ask")
    ask.add_argument("question")
    ask.add_argument("--k", "-k", type=int, help="passages to retrieve")
    ask.add_argument("--mode", choices=("rag", "closed_book", "quote"), default="rag")
    ask.add_argument("--search-mode", choices=("hybrid", "dense", "keyword"))
    ask.add_argument("--max-tokens", type=int, help="longest generated answer")
    ask.add_argument("--json", action="store_true", help="print the whole response as JSON")
    _shared(ask, argparse.SUPPRESS)
    return parser.parse_args(argv)


def _shared(parser: argparse.ArgumentParser, default: object = None) -> None:
    parser.add_argument(
        "--home", default=default, help="data folder; by default LOREBASE_HOME or the nearest .lorebase"
    )
    parser.add_argument("--collection", default=default)
    parser.add_argument(
        "--model", default=default, help="an installed MODEL or MODEL+ADAPTER, or ollama/NAME"
    )
