"""Fold an adapter into its base: W + scale * B A in float32, rounded once.

Only the corrected projections change; every other tensor is taken over as it is, quantized blocks included,
so a tied head stays tied. A quantized projection becomes dense, for the sum is on no grid of 4-bit codes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch

from model import checkpoint
from model.checkpoint import Checkpoint
from model.errors import AdapterError
from model.folder import sha256_file
from model.formats import peft
from model.identity import identity
from model.lora import Adapter, LowRank, check
from model.quantized import Weight, dense
from model.shelf import KNOWN, TRAINED_ON

#: What a quantized projection is rounded to by default: it has three more bits of mantissa than bf16, and
#: weights lie well within its range.
DENSE = torch.float16
#: Metadata that is true of the base only.
PROVENANCE = ("source", "sha256", "recipe", "stamp", "merged")


def merge(
    weights: Mapping[str, Weight], adapter: Adapter, dtype: torch.dtype | None = None
) -> dict[str, Weight]:
    """The base's weights with the adapter folded in.

    Args:
        weights: the base's, by native name.
        adapter: for this base.
        dtype: of the corrected projections; by default that of the base, or `DENSE` where it is quantized.

    Raises:
        AdapterError: an adapter of other shapes, or a sum that is no number.
    """
    matrices = {n.removesuffix(".weight"): w for n, w in weights.items() if n.endswith(".weight")}
    check(adapter, matrices)
    merged = dict(weights)
    for name, low_rank in adapter.modules.items():
        base = matrices[name]
        wanted = dtype or (base.dtype if isinstance(base, torch.Tensor) else DENSE)
        folded = fold(dense(base, torch.float32), low_rank).to(wanted)
        if not bool(folded.isfinite().all()):
            raise AdapterError(
                f"{name}: the merged weights are not finite numbers in {wanted}; the adapter is broken"
            )
        merged[f"{name}.weight"] = folded
    return merged


def fold(weight: torch.Tensor, low_rank: LowRank) -> torch.Tensor:
    """One corrected projection (out, in) in float32."""
    folded = torch.addmm(weight.float(), low_rank.b.float(), low_rank.a.float(), alpha=low_rank.scale)
    if low_rank.magnitude is not None:
        folded *= (low_rank.magnitude.float() / torch.linalg.vector_norm(folded, dim=1))[:, None]
    return folded


def merge_folder(
    base: Checkpoint, adapter_folder: Path, target: Path, *, dtype: torch.dtype | None = None
) -> None:
    """Write `base` with the adapter of a folder folded in as a native checkpoint that names both.

    Raises:
        AdapterError: an adapter that cannot be read, or for another base.
        CheckpointError: the target cannot be written.
    """
    base_hash = identity(base.weights)
    adapter = peft.read(adapter_folder, base.config, base=base_hash)
    origin = {
        "base": base.path.name,
        "base_weights": base_hash,
        "adapter": adapter_folder.name,
        "adapter_sha256": sha256_file(adapter_folder / peft.WEIGHTS_FILE),
    }
    kept = {key: value for key, value in base.metadata.items() if key not in PROVENANCE}
    metadata = kept | {"source": f"{base.path.name} + {adapter_folder.name}", "merged": origin}
    known = {*base.metadata.get(KNOWN, ()), *_collection(adapter_folder)}
    if known:
        metadata[KNOWN] = sorted(known)
    checkpoint.save(target, base.config, merge(base.weights, adapter, dtype), base.tokenizer_file, metadata)


def _collection(adapter: Path) -> list[str]:
    """The collection that an adapter says it was trained on; a nameless one where that cannot be read."""
    try:
        return [str(json.loads((adapter / TRAINED_ON).read_text(encoding="utf-8"))["collection"])]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError):
        return [""]
