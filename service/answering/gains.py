"""What a cited passage adds to a sentence that a model wrote: its evidence gain.

    gain = (log p(sentence | passage, question, before) - log p(sentence | question, before)) / its tokens

in nats a token, by the model that wrote it, with the cited passage alone in the prompt and with none. One
passage at a time, so that two that say the same do not take each other's credit. Overlap of words is seen by
anyone who reads the reply; the gain also sees a sentence that the passage's words are in and that the passage
does not make any likelier. It needs a generator that can score a given text.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from ingest.types import Hit
from service import prompt
from service.citations import Statement
from service.generators import Scores

#: Tokens that may be read for these checks; a longer reply or longer passages are left unchecked.
MOST_TOKENS = 6000


def gains(
    generator: Scores,
    question: str,
    statements: Sequence[Statement],
    cited: Sequence[Hit | None],
    cancel: threading.Event,
) -> list[float | None] | None:
    """The gain of each statement by the passage that it cites.

    Args:
        generator: what wrote them.
        question: as it was asked.
        statements: the whole reply in order.
        cited: of each statement, the passage; None where it cites none.
        cancel: looked at between passages.

    Returns:
        None for each statement without a passage; None for all where it would take too long.

    Raises:
        Cancelled: `cancel` was set.
    """
    engine = generator.engine
    passages = {hit.chunk_id: hit for hit in cited if hit is not None}
    if not passages:
        return [None] * len(statements)
    tokens = [engine.tokenizer.encode(statement.text) for statement in statements]
    reply = [token for part in tokens for token in part]
    prompts = {
        key: engine.prompt(prompt.messages(question, () if hit is None else (hit,)))
        for key, hit in [(None, None), *passages.items()]
    }
    longest = max(map(len, prompts.values())) + len(reply)
    if sum(map(len, prompts.values())) + len(prompts) * len(reply) > MOST_TOKENS:
        return None
    if longest > engine.config.context_length:
        return None
    scored = {key: engine.score(ids, [reply], cancel=cancel)[0] for key, ids in prompts.items()}
    found: list[float | None] = []
    at = 0
    for part, hit in zip(tokens, cited, strict=True):
        here = slice(at, at + len(part))
        at += len(part)
        if hit is None or not part:
            found.append(None)
        else:
            found.append((sum(scored[hit.chunk_id][here]) - sum(scored[None][here])) / len(part))
    return found
