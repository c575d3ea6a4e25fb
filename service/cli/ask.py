"""One question on the terminal: the service's own conductor without HTTP.

On a terminal, sentences are printed as soon as they are checked; what no passage supports is held back until
something is supported, and a draft that gives way to the documents' own words is followed by a line that says
so. Into a file or a pipe only the answer that counts is written.
"""

from __future__ import annotations

import sys
import threading

from pydantic import ValidationError

from model.errors import Cancelled
from service.app import assemble
from service.citations import Statement
from service.cli import frame
from service.cli.frame import UNSUPPORTED, Frame
from service.cli.printed import print_json
from service.deps import Parts
from service.errors import InvalidRequest
from service.events import Checked, Final, Reasoning
from service.routes.ask import prepare
from service.schemas import AskReply, AskRequest
from service.schemas.asking import Message

#: Turns of a conversation on the terminal that a follow-up question is understood by.
KEPT_MESSAGES = 21


def run(parts: Parts, body: AskRequest, *, as_json: bool, follow: bool = False) -> int:
    """Answer on standard output; returns the exit status.

    With `follow`, further questions are read from standard input, a line each, until it ends or a line is
    empty; each may refer to those before it.

    Raises:
        ServiceError, IngestError, ModelError: what went wrong, with a message for people.
    """
    parts.readiness.start()
    parts.readiness.wait()
    messages = [Message(role="user", content=body.asked)]
    while True:
        final = _answer(parts, body, as_json=as_json)
        if not follow or not (question := _next_question()):
            return 0
        messages.append(Message(role="assistant", content=final.answer or "-"))
        messages.append(Message(role="user", content=question))
        body = body.model_copy(update={"question": None, "messages": messages[-KEPT_MESSAGES:]})


def _next_question() -> str:
    """A line of standard input; empty where it has ended."""
    if sys.stdin.isatty():
        print("\n> ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip()


def _answer(parts: Parts, body: AskRequest, *, as_json: bool) -> Final:
    """Answer one question on standard output."""
    job = prepare(parts, body)
    cancel = threading.Event()
    words = frame.of(body.asked)
    shown = _Shown(words, quiet=as_json, live=sys.stdout.isatty())
    final: Final | None = None
    try:
        for event in job.run(cancel):
            if isinstance(event, Checked):
                shown.statement(event.statement)
            elif isinstance(event, Reasoning):
                shown.reasoning(event.text)
            elif isinstance(event, Final):
                final = event
    except KeyboardInterrupt:
        cancel.set()
        raise
    if final is None:
        raise Cancelled("the answer ended without a reply")
    if as_json:
        print_json(AskReply.of(final).model_dump(mode="json"))
        return final
    if final.standalone_question:
        print(words.understood(final.standalone_question), file=sys.stderr)
    shown.end(final)
    for citation in final.citations:
        print(words.line(citation))
    if not final.answered and final.sources:
        print(words.nearest)
        for hit in final.sources[:3]:
            quote = " ".join(hit.text.split())
            shown_quote = quote if len(quote) <= 160 else quote[:160] + "…"
            print(words.passage(hit.path, hit.page_first, hit.page_last, shown_quote))
    print(words.ending(final), file=sys.stderr)
    return final


class _Shown:
    """What has been printed of the answer."""

    def __init__(self, words: Frame, *, quiet: bool, live: bool) -> None:
        self._words, self._quiet, self._live = words, quiet, live
        self._held: list[Statement] = []
        self._printed: list[Statement] = []
        self._thinking = False

    def statement(self, statement: Statement) -> None:
        """Print a checked sentence, and those held back before it, once something is supported."""
        self._held.append(statement)
        if self._quiet or not self._live or not (statement.supported or self._printed):
            return
        for held in self._held:
            self._print(held)
        self._held.clear()

    def reasoning(self, text: str) -> None:
        """The model's reasoning goes to standard error."""
        if not self._quiet:
            self._thinking = True
            print(text, end="", file=sys.stderr, flush=True)

    def end(self, final: Final) -> None:
        """Print what the stream did not show, and end the paragraph."""
        if [s.text.strip() for s in self._printed] != [s.text.strip() for s in final.statements]:
            if self._printed:
                print(f"\n\n{self._words.withdrawn}\n")
            self._printed.clear()
            for statement in final.statements:
                self._print(statement, flag=bool(final.citations))
        print("\n" if final.citations else "")
        if any(not s.supported for s in final.statements) and final.citations:
            print(self._words.unsupported)

    def _print(self, statement: Statement, *, flag: bool = True) -> None:
        if self._thinking:
            print("\n", file=sys.stderr)
            self._thinking = False
        text = statement.text if self._printed else statement.text.lstrip()
        kept = text.rstrip()
        marks = "".join(f" [{m}]" for m in statement.markers) or (
            UNSUPPORTED if flag and not statement.supported else ""
        )
        print(kept + marks + text[len(kept) :], end="", flush=True)
        self._printed.append(statement)


def request(**fields: object) -> AskRequest:
    """A request from the command line's arguments; those that are None were not given.

    Raises:
        InvalidRequest: one does not fit.
    """
    try:
        return AskRequest.model_validate({k: v for k, v in fields.items() if v is not None})
    except ValidationError as error:
        first = error.errors()[0]
        said = "is empty" if first["type"] == "string_too_short" else first["msg"]
        raise InvalidRequest(f"{'.'.join(map(str, first['loc']))}: {said}") from error


__all__ = ["assemble", "request", "run"]
