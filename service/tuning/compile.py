"""From passages to pairs: a question for every span, and those kept that are answered back.

Passages are worked on in a random but fixed order, so that a run that ends early has seen all documents
alike. Where all of them give too few, they are gone over again for other spans. Every passage is written
down as soon as it is done.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from ingest.types import Hit
from model.errors import ContextOverflow
from service.evaluation.replies import setup_of
from service.reading.rows import dice, normal
from service.tuning import spans
from service.tuning.check import Checker
from service.tuning.pairs import Done, Pair, Pairs, Rejected, together
from service.tuning.passages import Candidate
from service.tuning.writer import Writes

#: Raise it when the same passage would give other questions.
VERSION = 1
#: How often a passage is worked on at most.
LAPS = 2


@dataclass(frozen=True, slots=True)
class Compiler:
    """What makes pairs."""

    writer: Writes
    checker: Checker
    pairs: Pairs
    decides: Mapping[str, object]  #: what else questions and verdicts depend on, by name
    seed: int = 0
    clock: Callable[[], float] = time.perf_counter

    @property
    def setup(self) -> str:
        """A hash of everything that decides what becomes of a passage, but the other passages."""
        return setup_of(
            version=VERSION,
            writer=self.writer.name,
            reader=self.checker.reader.name,
            search=(self.checker.k, self.checker.search_mode),
            seed=self.seed,
            decides=dict(self.decides),
        )

    def run(
        self,
        passages: Sequence[Candidate],
        max_pairs: int,
        cancel: threading.Event,
        told: Callable[[Done, bool], None] = lambda _, __: None,
    ) -> list[Done]:
        """What became of the passages, until so many pairs are kept; one for each that was worked on.

        Args:
            passages: in the order of work.
            max_pairs: at which no further passage is begun.
            cancel: looked at by writer and reader.
            told: called for every passage of every lap; its last argument says whether it had been done
                before.

        Raises:
            PairsUnwritable: they cannot be kept.
            Cancelled, IngestError, ModelError, ServiceError: what writer, search and reader raise.
        """
        setup, done, kept = self.setup, list[Done](), 0
        asked: set[str] = set()
        tried: dict[str, frozenset[str]] = {}
        for lap, passage in itertools.product(range(1, LAPS + 1), passages):
            if kept >= max_pairs:
                break
            before = tried.get(passage.key, frozenset())
            known = self.pairs.get(passage.key, setup, lap)
            if known is not None:  # the text is the same, but it may stand elsewhere by now
                hit = passage.hit
                known = replace(known, document_id=hit.document_id, path=hit.path, position=hit.position)
            one = known or self._work(passage, setup, asked, cancel, lap, before)
            if known is None:
                self.pairs.add(one)
            tried[passage.key] = before | one.asked_for
            done.append(one)
            kept += len(one.pairs)
            asked |= {normal(pair.question) for pair in one.pairs}
            told(one, known is not None)
        return together(done)

    def _work(  # noqa: PLR0917
        self,
        passage: Candidate,
        setup: str,
        asked: set[str],
        cancel: threading.Event,
        lap: int,
        tried: frozenset[str],
    ) -> Done:
        """Write questions on one passage, for other spans than were tried, and judge each."""
        hit = passage.hit
        again = (str(lap),) if lap > 1 else ()
        wanted = spans.spans(hit.text, dice(self.seed, "spans", passage.key, *again), tried)
        begun, failed = self.clock(), None
        try:
            written = self.writer.write(passage.heading, hit.text, wanted, cancel) if wanted else []
        except ContextOverflow as error:
            written, failed = [], str(error)
        wrote = self.clock()
        kept: list[Pair] = []
        rejected: list[Rejected] = []
        before = set(asked)
        for span, questions in zip(wanted, written, strict=not failed):
            for question in questions:
                found = self._judge(question, span, hit, before, cancel)
                before.add(normal(question))
                if isinstance(found, Pair):
                    kept.append(found)
                    break  # one question for a span is enough
                rejected.append(found)
        return Done(
            key=passage.key,
            setup=setup,
            document_id=hit.document_id,
            path=hit.path,
            position=hit.position,
            pairs=tuple(kept),
            rejected=tuple(rejected),
            write_s=round(wrote - begun, 2),
            check_s=round(self.clock() - wrote, 2),
            failed=failed,
            lap=lap,
        )

    def _judge(
        self, question: str, span: spans.Span, own: Hit, before: set[str], cancel: threading.Event
    ) -> Pair | Rejected:
        """The question as a pair, or why it is none."""
        wanted = span.answer if span.answer is not None else " ".join(span.sentences)
        if normal(question) in before:
            return Rejected(question=question, wanted=wanted, reason="asked before")
        checked = self.checker.check(question, span, own, cancel)
        if checked.reason is not None:
            return Rejected(question=question, wanted=wanted, reason=checked.reason, said=checked.said)
        found = tuple((hit.document_id, hit.position) for hit in checked.hits)
        return Pair(
            question=question, answer=span.answer, sentences=span.sentences, kind=span.kind, hits=found
        )


def totals(done: Sequence[Done]) -> dict[str, int | float | dict[str, int]]:
    """The figures of a compilation, for its report."""
    written, kept = sum(one.written for one in done), sum(len(one.pairs) for one in done)
    rejected = Counter(r.reason for one in done for r in one.rejected)
    return {
        "passages": len(done),
        "failed_passages": sum(one.failed is not None for one in done),
        "written": written,
        "kept": kept,
        "rejected_share": round(1 - kept / written, 4) if written else 0.0,
        "rejected": dict(rejected.most_common()),
        "kinds": dict(Counter(pair.kind for one in done for pair in one.pairs)),
        "write_s": round(sum(one.write_s for one in done), 1),
        "check_s": round(sum(one.check_s for one in done), 1),
    }
