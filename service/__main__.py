"""`python -m service`: serve the API and the page, ask one question on the terminal, or compare."""

from __future__ import annotations

import io
import os
import sys
from argparse import Namespace
from pathlib import Path

from ingest.cli.ending import ended
from ingest.errors import IngestError
from ingest.settings import find_home, read_table
from model.errors import ModelError
from service.cli import arguments
from service.errors import ServiceError
from service.settings import ServiceSettings

# libgomp's threads spin while they wait, and starve whoever wants their core: on a busy machine a decode
# step took 800 ms instead of 40. Read once, when torch is imported.
os.environ.setdefault("GOMP_SPINCOUNT", "2000")


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns its exit status: 0 done (a refusal is an answer), 2 it could not be done."""
    if isinstance(
        sys.stdout, io.TextIOWrapper
    ):  # a character that the terminal's encoding lacks ends nothing
        sys.stdout.reconfigure(errors="backslashreplace")
    given = arguments.parse(sys.argv[1:] if argv is None else argv)
    return ended(lambda: _dispatch(given), (ServiceError, IngestError, ModelError), failed=2)


def _dispatch(given: Namespace) -> int:
    home = Path(given.home).expanduser().resolve() if given.home else find_home()
    if given.command == "keys":
        from service.cli import keys

        return keys.execute(given, read_table("service", ServiceSettings), home)
    if given.command == "database":
        from service.cli import database

        return database.execute(read_table("service", ServiceSettings), home, given)
    if given.command == "settings":
        from service.cli import settings as shown

        return shown.execute(given, home)
    flags = {name: getattr(given, name, None) for name in ("host", "port", "model", "collection")}
    settings = read_table("service", ServiceSettings, flags)
    if given.command == "serve":
        from service.cli import serve

        serve.run(settings, home)
    if given.command == "mcp":
        from service.cli import mcp

        return mcp.run(settings, home)
    if given.command == "classify":
        from service.cli import classify

        return classify.execute(given, settings, home)
    if given.command == "calibrate":
        from service.cli import calibrate

        return calibrate.execute(given, settings, home)
    if given.command == "evaluate":
        from service.cli import evaluate

        return evaluate.execute(given, settings, home)
    if given.command == "tune":
        from service.cli import tune

        return tune.execute(given, settings, home)
    from service.cli import ask, frame

    body = ask.request(
        question=given.question,
        mode=given.mode,
        reading=given.reading,
        k=given.k,
        search_mode=given.search_mode,
        filters=given.filter,
        rerank=given.rerank,
        context=given.context,
        max_tokens=given.max_tokens,
        acceptable_error=given.acceptable_error,
    )
    if not given.json:
        words = frame.of(body.asked)
        print(words.begins(str(home), settings.collection, settings.model), file=sys.stderr)
    return ask.run(ask.assemble(settings, home), body, as_json=given.json, follow=given.follow)


if __name__ == "__main__":
    sys.exit(main())
