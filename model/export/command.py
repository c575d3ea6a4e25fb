"""`python -m model export`: a Hugging Face folder, or a GGUF file with its Modelfile, from a model."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from model import checkpoint, install, template_export
from model.chat import ChatTemplate
from model.checkpoint import Checkpoint
from model.errors import ExportError, UnknownModel, UnsupportedModel
from model.layout import is_native

DTYPES = ("bf16", "fp16", "fp32")
KINDS = ("f16", "q8_0")
MODELFILE = "Modelfile"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `export`."""
    add = parser.add_argument
    add("name", help="an installed model, or the folder of a checkpoint")
    add("--format", choices=("hf", "gguf"), help="hf: a folder for transformers; gguf: for llama.cpp, Ollama")
    add("--quantize", choices=KINDS, help="of a GGUF's matrices; default: f16")
    add("--dtype", choices=DTYPES, help="of a Hugging Face folder's tensors; default: bf16")
    add("--out", type=Path, metavar="DIR", help="default: exports/NAME-FORMAT in the data folder")
    add("--ollama", metavar="NAME", help="also create a model of this name on the running Ollama (gguf)")


def run(args: argparse.Namespace, home: Path, ollama_address: str) -> int:
    """Export; returns 0.

    Raises:
        ModelError: no such model, one that the format cannot hold, or a disk or an Ollama that refused.
    """
    form = args.format or ("gguf" if args.ollama else None)
    if form is None:
        raise ExportError("say what to write: --format hf, or --format gguf")
    if form == "hf" and (args.quantize or args.ollama):
        given = "--quantize" if args.quantize else "--ollama"
        raise ExportError(f"{given} goes with --format gguf")
    if form == "gguf" and args.dtype:
        raise ExportError("--dtype goes with --format hf; a GGUF's matrices are chosen by --quantize")
    if args.ollama:
        from model.export import ollama

        ollama.check_name(args.ollama)
    found = checkpoint.load(_folder(args.name, home))
    name = found.path.name
    out: Path = (args.out or home / "exports" / f"{name}-{form}").expanduser().absolute()
    if form == "hf":
        from model.formats import hf

        hf.write(found, out, dtype=args.dtype or "bf16")
        sys.stdout.write(f"{name}: {out}\n")
        return 0
    file, described = write_gguf(found, out, args.quantize or "f16")
    sys.stdout.write(f"{name}: {file}, with {MODELFILE}\n")
    if args.ollama:
        ollama.create(args.ollama, file, described, ollama_address, _say)
        sys.stdout.write(f"{name}: on Ollama at {ollama_address}; try it: ollama run {args.ollama}\n")
    return 0


def write_gguf(found: Checkpoint, out: Path, kind: str) -> tuple[Path, dict[str, object]]:
    """NAME-KIND.gguf and a Modelfile in folder `out`.

    Returns:
        The file, and what `ollama.create` needs beside it.

    Raises:
        UnsupportedModel: axes or a default system turn that the formats cannot hold.
        CheckpointError, ExportError: the disk refused.
    """
    from model.formats import gguf

    template = _template(found)
    name = f"{found.path.name}-{kind}.gguf"
    # First what may be refused for what it says, then what takes time.
    modelfile = template_export.modelfile(
        template, source=f"./{name}", context_length=found.config.context_length
    )
    try:
        out.mkdir(parents=True, exist_ok=True)
        gguf.write(found, out / name, kind="q8_0" if kind == "q8_0" else "f16")
        new = out / f".{MODELFILE}.new"
        new.write_text(modelfile, encoding="utf-8")
        new.replace(out / MODELFILE)
    except OSError as error:
        raise ExportError(f"{out} could not be written: {error}. Check free space and permissions") from error
    return out / name, template_export.ollama_fields(template, context_length=found.config.context_length)


def _template(found: Checkpoint) -> ChatTemplate | None:
    """The chat template; None for a model without one, whose Modelfile then has none either.

    Raises:
        UnsupportedModel: it has one that this stack does not have, and Ollama could only guess.
    """
    jinja = found.metadata.get("chat_template")
    return ChatTemplate.recognise(jinja, source=found.path.name) if jinja else None


def _folder(name: str, home: Path) -> Path:
    """An installed model, or a checkpoint's folder anywhere."""
    try:
        path = install.find(name, home)
    except UnknownModel:
        path = Path(name).expanduser()
        if not is_native(path):
            raise
    if install.kind_of(path) == "embedder":
        raise UnsupportedModel(
            f"{name} is an embedder: {path} is a sentence-transformers folder as it is, copy it"
        )
    return path.resolve()


def _say(line: str) -> None:
    sys.stderr.write(f"[{line}]\n")
    sys.stderr.flush()
