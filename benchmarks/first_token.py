"""Time to the first token with five passages: ours, read before (warm) or not (cold), against llama.cpp.

    python -m benchmarks.first_token [--questions 12] [--work DIR]

Claims: warm at most 1/5 of llama.cpp's time with the same passages in one prompt, cold no worse. llama.cpp
(the xllamacpp package, in this process) runs SmolLM2-135M as F16, Q8_0 and Q4_0, made here from the same
weights; the best of them counts. Its prompt is what our own joint mode shows, as the same token ids; `again` is
its own prompt cache at its best, the same passages in the same order with another question. Ours is the reader
with its adapter, from the call to the first word of the draft; beside it stands the conductor's time with
search, from `timings.first_token_ms`. Everything takes turns, question by question, with the same number of
threads.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gguf
import httpx
import torch

from benchmarks.answers import squad
from benchmarks.reading_calibration import DATA, collection
from ingest.settings import find_home
from ingest.types import Hit
from model import checkpoint, install
from model.formats.gguf import writer
from service import prompt, wiring
from service.answer import Answerer, Ask
from service.evaluation.questions import Question
from service.events import Final
from service.generators.own import OwnGenerator
from service.reading.reader import Reader
from service.settings import ServiceSettings

K = 5
#: Tokens that llama.cpp has room for: five passages, a question and a few tokens of reply.
CONTEXT = 4096
KINDS = ("f16", "q8_0", "q4_0")


def as_q4_0(source: Path, file: Path) -> Path:
    """The GGUF file with its large matrices as Q4_0; everything else is copied."""
    reader = gguf.GGUFReader(source)
    fields = reader.fields
    new = gguf.GGUFWriter(file, fields["general.architecture"].contents())
    for name, field in fields.items():
        if not name.startswith("GGUF.") and name != "general.architecture":
            kind, inner = field.types[0], field.types[-1] if len(field.types) > 1 else None
            new.add_key_value(name, field.contents(), kind, sub_type=inner)
    for tensor in reader.tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        kind = gguf.GGMLQuantizationType.Q4_0 if len(tensor.shape) > 1 else gguf.GGMLQuantizationType.F32
        stored = gguf.quants.quantize(values, kind)
        new.add_tensor(tensor.name, stored, raw_dtype=kind)
    new.write_header_to_file()
    new.write_kv_data_to_file()
    new.write_tensors_to_file()
    new.close()
    return file


class Llama:
    """llama.cpp with one file; keeps at most one prompt."""

    def __init__(self, file: Path) -> None:
        import xllamacpp

        params = xllamacpp.CommonParams()
        params.model.path = str(file)
        params.n_ctx, params.n_parallel, params.warmup, params.verbosity = CONTEXT, 1, True, 0
        params.n_batch = params.n_ubatch = 512
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = torch.get_num_threads()
        self._server = xllamacpp.Server(params)

    def first_token_s(self, tokens: Sequence[int], *, again: bool) -> float:
        """Seconds until the first piece of the reply is there."""
        asked = {
            "prompt": list(tokens),
            "n_predict": 4,
            "temperature": 0,
            "cache_prompt": again,
            "stream": True,
        }
        started = time.perf_counter()
        with httpx.stream(
            "POST", f"{self._server.listening_address}/completion", json=asked, timeout=600
        ) as reply:
            reply.raise_for_status()
            for line in reply.iter_lines():
                if line.startswith("data: "):
                    return time.perf_counter() - started
        raise SystemExit("llama.cpp wrote nothing")


def ours_s(reader: Reader, question: str, hits: Sequence[Hit]) -> float | None:
    """Seconds until the first word of the draft; None where nothing is drafted."""
    going = reader.read(question, hits, threading.Event())
    started = time.perf_counter()
    try:
        next(going)
    except StopIteration:
        return None
    took = time.perf_counter() - started
    going.close()
    return took


def asked_s(answerer: Answerer, question: Question, source: Any, generator: OwnGenerator) -> float | None:
    """The same through the conductor, search included."""
    *_, final = answerer.answer(
        Ask(question=question.text, collection="squad"), source, generator, threading.Event()
    )
    assert isinstance(final, Final)
    found = final.timings.first_token_ms
    return None if found is None else found / 1000


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--questions", type=int, default=12, help="that the reader answers")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--threads", type=int)
    parser.add_argument("--home", type=Path, help="data folder; default: the one in use")
    parser.add_argument("--work", type=Path, help="keep collection and GGUF files here, and use them again")
    args = parser.parse_args()
    if not (DATA / "qa").is_dir():
        sys.exit(f"no data in {DATA}: set LOREBASE_DATA")
    if args.threads:
        torch.set_num_threads(args.threads)
    with gzip.open(DATA / "qa" / "squad_dev_a.json.gz", "rt", encoding="utf-8") as file:
        articles = json.load(file)["data"]
    questions = squad(articles)["found"]
    random.Random(args.seed).shuffle(questions)
    home = args.home or find_home()
    settings = ServiceSettings(model=args.model, collection="squad")
    generator = wiring.models(settings, home, None).choose(None).get()
    assert isinstance(generator, OwnGenerator)
    reader = generator.reader
    if not isinstance(reader, Reader):
        sys.exit(f"{args.model} has no reader: install the adapter grounded-qa")
    engine = generator.engine
    with tempfile.TemporaryDirectory() as scratch:
        work: Path = args.work or Path(scratch)
        source = collection(articles, work, home).source("squad")
        assert source.search is not None
        loaded = checkpoint.load(install.find(args.model, home))
        files: dict[str, Path] = {}
        for kind in ("f16", "q8_0"):
            files[kind] = work / f"{kind}.gguf"
            if not files[kind].is_file():
                writer.write(loaded, files[kind], kind=kind)
        files["q4_0"] = work / "q4_0.gguf"
        if "q4_0" in args.kinds and not files["q4_0"].is_file():
            as_q4_0(files["f16"], files["q4_0"])
        del loaded
        peers = {kind: Llama(files[kind]) for kind in args.kinds}
        seconds: dict[str, list[float]] = {}
        answerer, tokens_each = Answerer(settings.refuse_below), []

        def timed(name: str, run: Callable[[], float | None]) -> None:
            took = run()
            if took is not None:
                seconds.setdefault(name, []).append(took)

        for question in questions:
            if len(seconds.get("ours, warm", [])) >= args.questions:
                break
            hits = source.search.search(question.text, K, "hybrid").hits
            reader.forget()
            cold = ours_s(reader, question.text, hits)
            if cold is None:  # nothing was drafted: there is no first token to compare
                continue
            seconds.setdefault("ours, cold", []).append(cold)
            list(_drained(reader, "What is this about?", hits))  # another question has read the passages
            timed("ours, warm", lambda q=question.text, h=hits: ours_s(reader, q, h))  # type: ignore[misc]
            timed("ours, warm, with search", lambda q=question: asked_s(answerer, q, source, generator))  # type: ignore[misc]
            ids, before = (
                engine.prompt(prompt.messages(asked, hits)) for asked in (question.text, "What is this?")
            )
            tokens_each.append(len(ids))
            for kind, peer in peers.items():
                timed(f"llama.cpp {kind}, cold", lambda p=peer, i=ids: p.first_token_s(i, again=False))  # type: ignore[misc]
                peer.first_token_s(before, again=True)
                timed(f"llama.cpp {kind}, again", lambda p=peer, i=ids: p.first_token_s(i, again=True))  # type: ignore[misc]
    print(
        f"{engine.describe()}; {torch.get_num_threads()} threads; {len(tokens_each)} questions, prompts of "
        f"{statistics.median(tokens_each):.0f} tokens with {K} passages"
    )
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    for name, values in seconds.items():
        print(
            f"{name:26}{1000 * medians[name]:8.0f} ms  ({1000 * min(values):.0f} to {1000 * max(values):.0f})"
        )
    best = min(
        (name for name in medians if name.endswith("cold") and "llama" in name), key=medians.__getitem__
    )
    for name in ("ours, warm", "ours, warm, with search", "ours, cold"):
        print(f"{name:26}{medians[name] / medians[best]:8.2f} times {best}")


def _drained(reader: Reader, question: str, hits: Sequence[Hit]) -> Any:
    yield from reader.read(question, hits, threading.Event())


if __name__ == "__main__":
    main()
