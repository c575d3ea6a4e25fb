"""The peers of `ingest_peers`: a folder into an index by LangChain and by Haystack, each as its manual shows it.

    python -m benchmarks.peers langchain FOLDER MODEL --into DIR       ingest; nothing is measured here
    python -m benchmarks.peers langchain FOLDER MODEL --look [--defaults]    cut only, and say as JSON what is read

LangChain: PyPDFLoader, TextLoader, RecursiveCharacterTextSplitter over the embedder's own tokenizer,
HuggingFaceEmbeddings, FAISS. Haystack: PyPDFToDocument, TextFileToDocument, RecursiveDocumentSplitter by characters
(its token unit knows OpenAI's vocabularies only), SentenceTransformersDocumentEmbedder, InMemoryDocumentStore. Both
get the prompt that the embedder wants and unit vectors. With `--defaults`, the splitters are as they come.

HuggingFaceEmbeddings is langchain-community's: the class of langchain-huggingface makes the same call, but holds
huggingface_hub below 2. LlamaIndex is left out: its PDF reader holds pypdf below 7 and striprtf at 0.0.26.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ |= {"HAYSTACK_TELEMETRY_ENABLED": "False", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "true"}
SUFFIXES = (".pdf", ".md", ".txt")
PROMPTS = {"multilingual-e5-small": "passage: "}


@dataclass(frozen=True)
class Cut:
    """Passages in order, each with the key of the text it stands in (a text may be one page); files that failed."""

    passages: list[tuple[str, str]]
    texts: dict[str, str]
    failed: dict[str, str]


def files_of(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES)


def loaded(folder: Path, load: Callable[[Path], Iterable[Any]]) -> tuple[list[Any], dict[str, str]]:
    """What every file yields, and why some yield nothing: one bad file shall not end the peer's run, either."""
    documents, failed = [], {}
    for file in files_of(folder):
        try:
            documents += load(file)
        except Exception as error:  # they raise what they like
            failed[str(file.relative_to(folder))] = f"{type(error).__name__}: {error}"[:120]
    return documents, failed


class LangChain:
    """One ingest by LangChain."""

    def __init__(self, model: Path, tokens: int | None, overlap: int) -> None:
        from langchain_text_splitters import RecursiveCharacterTextSplitter

        self.model, self.prompt = model, PROMPTS.get(model.name, "")
        if tokens is None:
            self.splitter = RecursiveCharacterTextSplitter()
            return
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(model)
        room = tokens - len(tokenizer(self.prompt)["input_ids"])
        self.splitter = RecursiveCharacterTextSplitter.from_huggingface_tokenizer(
            tokenizer, chunk_size=room, chunk_overlap=overlap
        )

    def cut(self, folder: Path) -> tuple[Cut, list[Any]]:
        """Passages as they can be looked at, and as the next step wants them."""
        from langchain_community.document_loaders import PyPDFLoader, TextLoader

        def load(file: Path) -> Iterable[Any]:
            return (PyPDFLoader if file.suffix == ".pdf" else TextLoader)(str(file)).load()

        documents, failed = loaded(folder, load)
        for number, document in enumerate(documents):
            document.metadata["text"] = str(number)
        chunks = self.splitter.split_documents(documents)
        passages = [(c.metadata["text"], c.page_content) for c in chunks]
        texts = {d.metadata["text"]: d.page_content for d in documents}
        return Cut(passages, texts, failed), chunks

    def ingest(self, folder: Path, into: Path) -> None:
        """Load, cut, embed, write the index below `into`."""
        from langchain_community.embeddings import HuggingFaceEmbeddings
        from langchain_community.vectorstores import FAISS

        _, chunks = self.cut(folder)
        embeddings = HuggingFaceEmbeddings(
            model_name=str(self.model),
            model_kwargs={"device": "cpu"},
            encode_kwargs={"normalize_embeddings": True, "prompt": self.prompt},
        )
        FAISS.from_documents(chunks, embeddings).save_local(str(into))


class Haystack:
    """One ingest by Haystack."""

    def __init__(self, model: Path, characters: int | None, overlap: int) -> None:
        from haystack.components.preprocessors import DocumentSplitter, RecursiveDocumentSplitter

        self.model, self.prompt = model, PROMPTS.get(model.name, "")
        self.loaded: tuple[list[Any], dict[str, str]] | None = None
        self.splitter = (
            DocumentSplitter()
            if characters is None
            else RecursiveDocumentSplitter(
                split_length=characters,
                split_overlap=overlap,
                split_unit="char",
                separators=["\n\n", "\n", " "],
            )
        )

    def cut(self, folder: Path) -> tuple[Cut, list[Any]]:
        """Passages as they can be looked at, and as the next step wants them."""
        from haystack.components.converters import PyPDFToDocument, TextFileToDocument

        pdf, text = PyPDFToDocument(), TextFileToDocument()

        def load(file: Path) -> Iterable[Any]:
            found = (pdf if file.suffix == ".pdf" else text).run(sources=[file])["documents"]
            if not found:  # it logs the error and leaves the file out
                raise ValueError("left out with a warning")
            return [document for document in found if document.content]

        if self.loaded is None:
            self.loaded = loaded(folder, load)
        documents, failed = self.loaded
        self.splitter.warm_up()
        chunks = self.splitter.run(documents=documents)["documents"]
        passages = [(c.meta["source_id"], c.content) for c in chunks]
        return Cut(passages, {d.id: d.content for d in documents}, failed), chunks

    def ingest(self, folder: Path, into: Path) -> None:
        """Load, cut, embed, write the index below `into`."""
        from haystack.document_stores.in_memory import InMemoryDocumentStore
        from haystack.document_stores.types import DuplicatePolicy
        from haystack.utils import ComponentDevice
        from haystack_integrations.components.embedders.sentence_transformers import (
            SentenceTransformersDocumentEmbedder,
        )

        _, chunks = self.cut(folder)
        embedder = SentenceTransformersDocumentEmbedder(
            model=str(self.model),
            prefix=self.prompt,
            device=ComponentDevice.from_str("cpu"),
            normalize_embeddings=True,
            progress_bar=False,
            local_files_only=True,
        )
        embedder.warm_up()
        store = InMemoryDocumentStore()
        store.write_documents(embedder.run(documents=chunks)["documents"], policy=DuplicatePolicy.SKIP)
        into.mkdir(parents=True, exist_ok=True)
        store.save_to_disk(str(into / "store.json"))


SYSTEMS = {"langchain": LangChain, "haystack": Haystack}


def look(cut: Cut, model: Path, prompt: str) -> dict[str, Any]:
    """How long the passages are, and how many characters no passage carries into the embedder's window.

    Characters are counted without white space: splitters drop that at edges.
    """
    from tokenizers import Tokenizer

    window = json.loads((model / "sentence_bert_config.json").read_text(encoding="utf-8"))["max_seq_length"]
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    before = len(tokenizer.encode(prompt).ids) - 1  # all but the token that ends a text
    room = window - before - 1
    read: dict[str, list[tuple[int, int]]] = {key: [] for key in cut.texts}
    tokens, truncated = [], 0
    for key, passage in cut.passages:
        offsets = tokenizer.encode(passage, add_special_tokens=False).offsets
        start = cut.texts[key].find(passage, read[key][-1][0] if read[key] else 0)
        if start < 0:
            raise ValueError(f"a passage that its text does not have: {passage[:80]!r}")
        tokens.append(len(offsets) + before + 1)
        truncated += len(offsets) > room
        read[key].append((start, start + (len(passage) if len(offsets) <= room else offsets[room - 1][1])))
    total = lost = 0
    for key, text in cut.texts.items():
        at = 0
        for first, last in sorted(read[key]):
            lost += len("".join(text[at:first].split()))
            at = max(at, last)
        lost += len("".join(text[at:].split()))
        total += len("".join(text.split()))
    return {
        "passages": len(cut.passages),
        "mean_tokens": round(sum(tokens) / max(1, len(tokens)), 1),
        "longest_tokens": max(tokens, default=0),
        "mean_characters": round(sum(len(p) for _, p in cut.passages) / max(1, len(tokens)), 1),
        "truncated": truncated,
        "characters": total,
        "never_embedded": lost,
        "failed": cut.failed,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("system", choices=SYSTEMS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("--into", type=Path)
    parser.add_argument("--look", action="store_true")
    parser.add_argument("--defaults", action="store_true")
    parser.add_argument("--fit", action="store_true", help="shorten until nothing is truncated (Haystack)")
    parser.add_argument(
        "--length", type=int, help="of a passage: tokens for LangChain, characters for Haystack"
    )
    parser.add_argument("--overlap", type=int, default=0)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    for noisy in ("pypdf", "haystack", "sentence_transformers", "transformers"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    system = SYSTEMS[args.system](args.model, None if args.defaults else args.length, args.overlap)
    if args.look:
        found = look(system.cut(args.folder)[0], args.model, system.prompt)
        while args.fit and found["truncated"]:  # shorter, until nothing is
            system.splitter.split_length = round(0.9 * system.splitter.split_length)
            system.splitter.split_overlap = round(0.9 * system.splitter.split_overlap)
            found = look(system.cut(args.folder)[0], args.model, system.prompt)
        if args.fit:
            found |= {"length": system.splitter.split_length, "overlap": system.splitter.split_overlap}
        print(json.dumps(found))
    else:
        system.ingest(args.folder, args.into)


if __name__ == "__main__":
    main()
