"""Progress of long commands on standard error."""

from __future__ import annotations

import sys

from tqdm import tqdm

from service.deps import Parts
from service.tuning.build import Built, Plan, build, compiler
from service.tuning.pairs import Done
from service.tuning.train import Train, train


def built(parts: Parts, made: Plan, training: Train = train) -> Built:
    """Build an adapter (`service.tuning.build.build`), with a bar for its passages."""
    kept = 0
    with tqdm(total=made.passages, unit="passage", file=sys.stderr, disable=None) as bar:

        def told(done: Done, _: bool) -> None:
            nonlocal kept
            kept += len(done.pairs)
            bar.total = max(bar.total, bar.n + 1)
            bar.set_postfix_str(f"{kept} pairs kept", refresh=False)
            bar.update()

        def say(line: str) -> None:
            bar.clear()
            print(line, file=sys.stderr, flush=True)

        return build(made, compiler(parts, made), parts.home, training=training, say=say, told=told)
