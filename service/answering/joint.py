"""One prompt with all passages, and its reply checked sentence by sentence; or the model alone, unchecked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from model.config import Sampling
from service import evidence, prompt
from service.answering import gains, quoted
from service.answering.each import DONE
from service.answering.turn import Turn
from service.citations import Citer, Statement
from service.events import Event, Final, Usage
from service.generators import Generator, Scores
from service.quoting import focus
from service.writing import Writing

#: What a model of another server may think, in tokens beside those of its answer.
THINKING_TOKENS = 2048
#: Bytes of a written token, about: such a model's tokenizer is not here.
WRITTEN_BYTES_PER_TOKEN = 4
THOUGHT = "{} has thought until its tokens were used up, and has not answered: ask with a larger max_tokens."
THOUGHT_ZH = "{} 一直在思考，直到用完了可用的词元，没有作答：请用更大的 max_tokens 再问一次。"
#: How much of a small generator's answer must stand in the passages; below it the documents speak.
MOSTLY_SUPPORTED = 0.5


def answer(turn: Turn) -> Iterator[Event]:
    """Let the generator read the passages together; what it writes without support gives way to a quotation.

    Raises:
        Cancelled: the question was withdrawn.
    """
    ask, generator = turn.ask, turn.generator
    heard, sampling = turn.heard, ask.sampling
    hits = tuple(sorted(heard.hits, key=heard.steers))
    if generator.focus_sentences:
        turn.quotes = quoted.ranked(turn)
        hits = tuple(focus(turn.quotes[: generator.focus_sentences])) or hits
        sampling = replace(sampling, stop=(*sampling.stop, *prompt.STOP))
    room = generator.context_tokens - _longest(generator, sampling)
    packed = prompt.pack(ask.question, hits, generator.count_tokens, room)
    read = {hit.chunk_id for hit in packed.hits}
    packed = replace(packed, dropped_chunks=len({h.chunk_id for h in turn.reply.sources} - read))
    if not packed.hits:  # no passage fits beside the question
        turn.reply = replace(turn.reply, usage=Usage(dropped_chunks=packed.dropped_chunks))
        yield from quoted.answer(turn)
        return
    writing = Writing(Citer(ask.question, packed.hits))
    yield from _write(turn, packed, writing, sampling)
    turn.reply = replace(turn.reply, reading="joint", checks=_weigh(turn, writing))
    if (ask.on_no_answer == "answer" and writing.statements) or _stands(turn, writing):
        yield _generated(turn, writing, answered=True)
    elif turn.doubted and ask.on_no_answer == "refuse":
        yield turn.refuse("not_in_passages")
    else:  # what answers does not stand in the passages: their own words do, and they replace the draft
        yield from (e for e in quoted.answer(turn) if isinstance(e, Final))


def closed_book(turn: Turn) -> Iterator[Event]:
    """Let the generator answer from memory.

    Raises:
        Cancelled: the question was withdrawn.
    """
    generator = turn.generator
    room = generator.context_tokens - _longest(generator, turn.ask.sampling)
    packed = prompt.closed_book(turn.ask.question, generator.count_tokens, room)
    writing = Writing(None)
    yield from _write(turn, packed, writing, turn.ask.sampling)
    if not writing.statements and writing.reasoning:
        told = THOUGHT_ZH if evidence.in_chinese(turn.ask.question) else THOUGHT
        yield turn.final((Statement(told.format(generator.name), ours=True),), answered=False)
        return
    yield _generated(turn, writing, answered=bool(writing.statements))


def _longest(generator: Generator, sampling: Sampling) -> int:
    """Tokens that a reply may take: a model of another server may think before it answers."""
    if isinstance(generator, Scores):
        return sampling.max_tokens
    window = generator.context_tokens
    return min(sampling.max_tokens, window // 2) + min(THINKING_TOKENS, window // 4)


def _write(turn: Turn, packed: prompt.Packed, writing: Writing, sampling: Sampling) -> Iterator[Event]:
    generator = turn.generator
    first_token_ms: float | None = None
    own = isinstance(generator, Scores)  # encodes control tokens in a text as text
    shown = packed.messages if own else prompt.defused(packed.messages)
    longest = replace(sampling, max_tokens=_longest(generator, sampling))
    most_bytes = None if own else sampling.max_tokens * WRITTEN_BYTES_PER_TOKEN
    for piece in generator.stream(shown, longest, turn.cancel):
        turn.check_cancel()
        if first_token_ms is None and (piece.text or piece.reasoning):
            first_token_ms = turn.since_ms()
        yield from writing.feed(piece)
        if writing.repeats:
            break
        if most_bytes is not None and writing.answer_bytes > most_bytes and not piece.finish_reason:
            writing.cut()
            break
    yield from writing.finish()
    last = writing.last
    turn.reply = replace(
        turn.reply,
        model=generator.name,
        reasoning=writing.reasoning,
        usage=Usage(
            prompt_tokens=(last.prompt_tokens if last else 0) or packed.prompt_tokens,
            completion_tokens=last.completion_tokens if last else 0,
            context_tokens=generator.context_tokens,
            dropped_chunks=packed.dropped_chunks,
        ),
        timings=replace(turn.reply.timings, first_token_ms=first_token_ms),
    )


def _weigh(turn: Turn, writing: Writing) -> dict[str, str]:
    """Take markers away whose passage adds nothing to their sentence; what was checked, and what was not.

    What stands in a passage word for word is no less true for being known without it, and keeps its marker.
    """
    checks = {"quotation": "not needed: nothing is quoted", "overlap": DONE}
    generator, citer = turn.generator, writing.citer
    if not isinstance(generator, Scores):
        return checks | {"evidence_gain": f"not possible: {generator.name} cannot score a given text"}
    assert citer is not None
    cited = {citation.marker: citer.passages[citation.marker] for citation in citer.citations}
    passages = [next((cited[m] for m in s.markers), None) for s in writing.statements]
    found = gains.gains(generator, turn.ask.question, writing.statements, passages, turn.cancel)
    if found is None:
        return checks | {"evidence_gain": "left out: too much to read again"}
    writing.unmark(
        [
            at
            for at, (gain, support) in enumerate(zip(found, writing.supports, strict=True))
            if gain is not None and gain <= 0 and support < 1
        ]
    )
    return checks | {"evidence_gain": DONE}


def _generated(turn: Turn, writing: Writing, *, answered: bool) -> Final:
    confidence = turn.reply.confidence
    if confidence is not None:
        confidence = round(confidence * writing.support, 4)
    return turn.final(
        tuple(writing.statements),
        answered=answered,
        llm_generated=True,
        citations=tuple(writing.citer.citations) if writing.citer else (),
        confidence=confidence,
    )


def _stands(turn: Turn, writing: Writing) -> bool:
    """Whether what was written may be the answer: its first sentence has support.

    With a small generator, most of the rest must have support too, and the first sentence must have been
    found where the best quote is: it is then never worse than that quote, which its citation shows.
    """
    if not (writing.citer and writing.statements and writing.statements[0].supported):
        return False
    if not turn.quotes:
        return True
    if writing.support < MOSTLY_SUPPORTED:
        return False
    best = turn.quotes[0]
    first, last = best.hit.char_start + best.start, best.hit.char_start + best.end
    return any(
        c.document_id == best.hit.document_id and c.char_start < last and first < c.char_end
        for c in writing.citer.citations
        if c.marker in writing.statements[0].markers
    )
