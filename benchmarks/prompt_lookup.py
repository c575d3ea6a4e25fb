"""Prompt lookup against plain greedy decoding, in turns, on replies that quote and on replies that do not.

    python -m benchmarks.prompt_lookup [--home HOME] [--model NAME] [--rounds 3] [--new 96] [--threads N]

Claims: every reply is the plain one, token for token; quoting replies are written faster. Each pair is timed
in one process, one after the other, and includes reading the prompt.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

from benchmarks.measure import Rate, ratio
from ingest.settings import find_home
from model import install
from model.config import Sampling
from model.engine import Engine

PASSAGE = (
    "The reading room opens at nine in the morning and closes at six in the evening, except on Fridays, "
    "when it stays open until nine. Visitors leave bags and coats in the lockers on the ground floor. "
    "A day ticket costs four euros; members of the society and children under twelve enter free of charge. "
    "Books from the closed stacks are brought within forty minutes and may be kept on the desk until noon "
    "of the following day. Photographs without flash are allowed for private study."
)
QUOTING = (
    f"{PASSAGE}\n\nRepeat the passage above word for word.",
    f"{PASSAGE}\n\nCopy the sentences that say when the reading room is open and what a ticket costs.",
    f"Correct nothing, only repeat this text exactly:\n\n{PASSAGE}",
)
FREE = (
    "Write a short story about a lighthouse keeper who finds a letter.",
    "Explain why the sky is blue to a child.",
    "Give me a plan for a garden on a small balcony.",
)


def timed(engine: Engine, prompt: list[int], sampling: Sampling) -> tuple[float, list[int], int, int]:
    """Seconds, the reply, and how many tokens were drafted and right."""
    start = time.perf_counter()
    reply = engine.generate(prompt, sampling)
    tokens = [token.id for token in reply]
    return time.perf_counter() - start, tokens, reply.drafted_tokens, reply.kept_tokens


def main() -> None:
    """Run both ways in turn; exit 1 where a reply differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--home", type=Path, help="data folder; default: as everywhere")
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--kernel", default="auto")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--new", type=int, default=96, help="tokens of a reply at most")
    parser.add_argument("--drafts", type=int, default=7)
    parser.add_argument("--threads", type=int)
    args = parser.parse_args()
    folder = install.find(args.model, args.home or find_home())
    engine = Engine.load(folder, threads=args.threads, kernel=args.kernel)
    print(engine.describe())
    plain = Sampling(max_tokens=args.new)
    fast = Sampling(max_tokens=args.new, prompt_lookup=args.drafts)
    if not engine.drafts(fast):
        sys.exit("these kernels decode step by step: packed ones are needed for prompt lookup")
    results: dict[str, object] = {"benchmark": "prompt_lookup", "kernels": str(engine.kernels)}
    for kind, questions in (("quoting", QUOTING), ("free", FREE)):
        rates: dict[str, list[float]] = {"plain": [], "lookup": []}
        drafted = kept = said = 0
        for question in questions:
            prompt = engine.prompt([{"role": "user", "content": question}])
            timed(engine, prompt, Sampling(max_tokens=4))
            for _ in range(args.rounds):
                seconds, expected, _, _ = timed(engine, prompt, plain)
                rates["plain"].append(len(expected) / seconds)
                seconds, tokens, more, right = timed(engine, prompt, fast)
                rates["lookup"].append(len(tokens) / seconds)
                if tokens != expected:
                    sys.exit(f"the reply to {question[-60:]!r} differs: prompt lookup is not exact here")
                drafted, kept, said = drafted + more, kept + right, said + len(tokens)
        ours, theirs = (Rate(tuple(rates[way])) for way in ("lookup", "plain"))
        print(f"{kind:<8} plain {theirs} tokens/s, lookup {ours} tokens/s, {ratio(ours, theirs)}", flush=True)
        print(
            f"{'':<8} {kept} of {drafted} drafted tokens were right, of {said} written; replies identical",
            flush=True,
        )
        pairs = [a / b for a, b in zip(rates["lookup"], rates["plain"], strict=True)]
        results[kind] = {"ratio": round(statistics.median(pairs), 3), "drafted": drafted, "kept": kept}
    print(json.dumps(results))


if __name__ == "__main__":
    main()
