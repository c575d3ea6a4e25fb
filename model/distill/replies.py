"""Replies of a teacher in Ollama to the prompts of a set, as a set to imitate.

One line a prompt: its conversation with the teacher's reply in ShareGPT's form, and where the reply comes
from (teacher, decoding, when). Fetching may be stopped and goes on where it was: a prompt that has its line
is not asked again. An empty reply is kept, so that it is not asked for ever, and left out of training as any
blank reply is.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from model.chat import Message
from model.data.forms import Example
from model.errors import OllamaError
from model.lines import Lines
from model.ollama import PREFIX, Ollama

#: Failures in a row after which the teacher is given up.
PATIENCE = 3


def prompts_of(examples: Sequence[Example]) -> list[list[Message]]:
    """What is asked in each conversation: all up to its last user turn, each once."""
    found: dict[str, list[Message]] = {}
    for example in examples:
        for turns in example.conversations:
            last = max((i for i, turn in enumerate(turns) if turn["role"] == "user"), default=-1)
            asked = list(turns[: last + 1])
            if asked:
                found.setdefault(json.dumps(asked), asked)
    return list(found.values())


def fetch(
    prompts: Sequence[Sequence[Message]],
    teacher: str,
    client: Ollama,
    file: Path,
    *,
    options: Mapping[str, Any],
    say: Callable[[str], None] = lambda _: None,
) -> tuple[int, int]:
    """Ask what is not yet in `file`; how many replies were fetched, and how many prompts failed.

    Raises:
        OllamaError: `PATIENCE` prompts failed in a row; what was fetched is kept.
        DataError: the file is something else, or the disk refused.
    """
    lines = Lines(file)
    fetched = failed = row = 0
    for number, messages in enumerate(prompts, 1):
        told = json.dumps([teacher, dict(options), list(messages)], sort_keys=True)
        key = hashlib.sha256(told.encode()).hexdigest()[:32]
        if key in lines.records:
            continue
        try:
            reply = client.reply(teacher, messages, options=options)
        except OllamaError as error:
            failed, row = failed + 1, row + 1
            say(f"prompt {number}: {error}")
            if row == PATIENCE:
                raise OllamaError(
                    f"{error}. {PATIENCE} prompts failed in a row; {fetched} replies are in {file}, "
                    "and the same command goes on from there"
                ) from error
            continue
        turns = [{"role": turn["role"], "content": turn["content"]} for turn in messages]
        lines.add(
            {
                "key": key,
                "messages": [*turns, {"role": "assistant", "content": reply}],
                "teacher": PREFIX + teacher,
                "options": dict(options),
                "fetched": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            }
        )
        fetched, row = fetched + 1, 0
        if fetched % 10 == 0:
            say(f"{fetched} replies fetched, {number} of {len(prompts)} prompts")
    return fetched, failed
