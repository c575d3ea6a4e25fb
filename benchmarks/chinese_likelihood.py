"""Can the likelihood of SmolLM2 find Chinese answers? Figures beside the span reader and the best sentence.

    python -m benchmarks.chinese_likelihood [--questions 20] [--seed 0] [--show 5]

CMRC 2018's dev part (`LOREBASE_DATA`), each question with its own paragraph and nothing else. Four ways:

    held       the model writes greedily, held to the paragraph's words (`model.engine.constrain`)
    sentence?  the sentence that the model finds likeliest as the reply, a token, less what it is without the
               question
    best       the sentence that fits best by words and meaning (`service.quoting`)
    spans      the span reader

F1 over characters, the share whose answer holds an accepted one, and whether it stands in the paragraph byte
for byte between two boundaries.
"""

from __future__ import annotations

import argparse
import random
import sys
import time

import numpy as np

from benchmarks.chinese import DATA, paragraphs
from ingest.embed import find_embedder
from ingest.settings import IngestSettings, find_home
from ingest.types import Hit
from model import install
from model.chat import Message
from model.config import Sampling
from model.engine import Engine
from model.engine.constrain import Quotation, Slices, Vocabulary, boundaries
from model.spans import folder
from service.evaluation.scoring import f1
from service.quoting import best_sentences
from service.sentences import split
from service.spans.candidates import tidy

#: Characters of a paragraph that are read: two tokens each, in a window of 2,048.
MOST_CHARACTERS = 700


def messages(paragraph: str, question: str) -> list[Message]:
    asked = f"{paragraph}\n\n{question}\n请用原文回答。" if question else paragraph
    return [Message(role="user", content=asked)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--questions", type=int, default=20)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", type=int, default=0, help="print so many answers")
    args = parser.parse_args()
    if not (DATA / "qa").is_dir():
        sys.exit(f"no data in {DATA}: set LOREBASE_DATA")
    home = find_home()
    engine = Engine.load(install.find(args.model, home))
    embedder = find_embedder(IngestSettings().embedder, home)
    reader = folder.load(install.find(folder.encoder_name(), home), cut=embedder.pieces)
    vocabulary = Vocabulary(engine.tokenizer)
    asked = [
        (paragraph["context"], qa["question"], [a["text"] for a in qa["answers"]])
        for _, paragraph in paragraphs("cmrc2018_dev_a")
        for qa in paragraph["qas"]
        if len(paragraph["context"]) <= MOST_CHARACTERS
    ]
    scores: dict[str, list[tuple[float, bool, bool]]] = {}
    pieces = characters = 0
    started = time.perf_counter()
    for number, (text, question, accepted) in enumerate(
        random.Random(args.seed).sample(asked, args.questions)
    ):
        tokens = engine.tokenizer.encode(text)
        broken = [
            t for t in tokens if "\ufffd" in engine.tokenizer.decode_bytes([t]).decode("utf-8", "replace")
        ]
        pieces, characters = pieces + len(broken), characters + len(tokens)
        marks = boundaries(text)
        quotation = Quotation(Slices.between(text, marks, vocabulary), end=engine.config.eos_ids)
        prompt = engine.prompt(messages(text, question))
        said = engine.generate(prompt, Sampling(max_tokens=96), constraint=quotation)
        held = "".join(token.text for token in said)
        sentences = [text[s.start : s.end] for s in split(text)]
        replies = [engine.tokenizer.encode(sentence) for sentence in sentences]
        with_, without = (
            np.array([np.mean(one) for one in engine.score(engine.prompt(messages(*some)), replies)])
            for some in ((text, question), (text, ""))
        )
        hit = Hit(0, "d", "d", "", 0, text, 0, len(text), None, None, (), 1.0, None, None)
        products = lambda q, texts: embedder.encode_passages(texts) @ embedder.encode_queries([q])[0]  # noqa: E731
        span = reader.read(question, [(text, "")])[0].spans[0]
        start, end = tidy(text, span.start, span.end)
        answers = {
            "held": held,
            "sentence?": sentences[int((with_ - without).argmax())],
            "best": best_sentences(question, [hit], products)[0].text,
            "spans": text[start:end],
        }
        for way, answer in answers.items():
            at = [i for i in marks if text.startswith(answer, i)]
            exact = any(i + len(answer) in marks for i in at)
            holds = any(gold in answer for gold in accepted)
            scores.setdefault(way, []).append((f1(answer, accepted), holds, exact))
        if number < args.show:
            print(f"\n{question} ({accepted[0]})")
            for way, answer in answers.items():
                print(f"  {way:10}{answer}")
    print(
        f"\n{args.questions} questions, {time.perf_counter() - started:.0f} s; {pieces / characters:.0%} of"
    )
    print(f"{args.model}'s tokens in these paragraphs are pieces of a character")
    print(f"{'':10}{'F1':>10}{'holds it':>10}{'verbatim':>10}")
    for way, found in scores.items():
        print(f"{way:10}" + "".join(f"{np.mean(column):10.1%}" for column in zip(*found, strict=True)))


if __name__ == "__main__":
    main()
