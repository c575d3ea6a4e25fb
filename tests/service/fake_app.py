"""The service over the manual with fakes: `python -m tests.service.fake_app [--port 8001]`, for work on the
page.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

import uvicorn

from service.app import create_app
from service.generators import Message
from service.settings import ServiceSettings
from tests.service.fakes import MemoryLibrary, ScriptedGenerator


def first_sentences(messages: Sequence[Message]) -> str:
    """A reply as a small model might write it: two sentences of the first passage, and one that it made
    up.
    """
    passage = re.search(r'"""\n(.*?)\n"""', messages[-1]["content"], re.DOTALL)
    sentences = re.findall(r"[^.]+\.", passage[1] if passage else "I know nothing. It is so.")
    return "".join(sentences[:2]).strip() + " The moon is made of **green** cheese."


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--port", type=int, default=8001)
    options.add_argument("--delay", type=float, default=0.05, help="seconds between words")
    given = options.parse_args()
    docs = Path(__file__).resolve().parents[2] / "docs"
    library = MemoryLibrary({f.name: f.read_text(encoding="utf-8") for f in sorted(docs.glob("*.md"))})
    generator = ScriptedGenerator(first_sentences, name="smollm2-135m-instruct", delay_s=given.delay)
    app = create_app(ServiceSettings(), Path(tempfile.mkdtemp()), library, generator)
    uvicorn.run(app, host="127.0.0.1", port=given.port, log_level="warning")


if __name__ == "__main__":
    main()
