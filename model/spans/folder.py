"""The span reader as a folder, and how it is put upon the encoder that it was trained on.

    spans.json          form, version, the encoder's name and fingerprint, its cut, the questions' scripts
    spans.safetensors   the trained layers; matrices as int8 with one scale a row (value = code * scale)
    README.md loss.png  its card, its picture
    manifest.json       sizes and hashes (`model.folder`)

Rounding a row to 8 bits changes a weight by at most 1/254 of the row's largest: less than what bfloat16, in
which it may be computed, does to large ones, in half the size. The folder is of no use without the very
encoder that it was trained on, so that one's fingerprint is compared.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from model import folder as folders
from model.errors import CheckpointError
from model.spans.encoder import Encoder, read_encoder
from model.spans.network import SpanNet
from model.spans.pieces import Cut, Pieced
from model.spans.reader import SpanReader
from model.train.precision import choose
from model.train.state import write_tensors

FORMAT, VERSION = "lorebase-spans", 1
CONFIG_FILE, WEIGHTS_FILE = "spans.json", "spans.safetensors"
#: The one that comes with this package.
SHIPPED = Path(__file__).parents[1] / "readers" / "span-reader"
SCALE = ".scale"


def write(
    target: Path, net: SpanNet, encoder: Encoder, encoder_name: str, scripts: Sequence[str] = ()
) -> None:
    """Write weights and config into an existing folder.

    Args:
        target: the folder.
        net: what was trained.
        encoder: upon this one.
        encoder_name: its name in the catalog.
        scripts: of the questions that it was trained on, LATIN or CJK; any without them.

    Raises:
        OSError: the disk refused.
    """
    layers = len(net.blocks)
    described = {
        "format": FORMAT,
        "version": VERSION,
        "encoder": encoder_name,
        "fingerprint": encoder.fingerprint(),
        "lower_layers": encoder.config.n_layers - layers,
        "upper_layers": layers,
        "scripts": list(scripts),
    }
    (target / CONFIG_FILE).write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8")
    write_tensors(target / WEIGHTS_FILE, packed(net.state_dict()))


def packed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Matrices as int8 codes (out, in) and scales (out,) float32; vectors as they are."""
    found: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if tensor.ndim < 2:
            found[name] = tensor.detach().float().contiguous()
            continue
        scale = tensor.detach().float().abs().amax(1).clamp_min(1e-12) / 127
        found[name] = (tensor.detach().float() / scale[:, None]).round().to(torch.int8)
        found[name + SCALE] = scale
    return found


def unpacked(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What `packed` made, as float32."""
    return {
        name: tensor if tensor.dtype != torch.int8 else tensor.float() * stored[name + SCALE][:, None]
        for name, tensor in stored.items()
        if not name.endswith(SCALE)
    }


def encoder_name(source: Path = SHIPPED) -> str:
    """Which encoder a folder's reader needs, by its name in the catalog.

    Raises:
        CheckpointError: it cannot be read.
    """
    return str(_described(source)["encoder"])


def load(
    encoder_folder: Path, source: Path = SHIPPED, *, cut: Cut | None = None, dtype: torch.dtype | None = None
) -> SpanReader:
    """The reader in `source`, upon the encoder in `encoder_folder`.

    Args:
        encoder_folder: the sentence-transformers folder.
        source: what `write` wrote.
        cut: the encoder's tokenizer where somebody has it in memory already; it takes 280 MB.
        dtype: to compute in; by a probe without it.

    Raises:
        CheckpointError: files missing or damaged, or another encoder than the one that it was trained on.
        UnsupportedModel, TokenizerError: the encoder cannot be used.
    """
    described = _described(source)
    if damage := folders.damage(source, hashes=True):
        raise CheckpointError(f"{source} is damaged: {damage[0]}. Install Lorebase again")
    encoder = read_encoder(encoder_folder)
    if encoder.fingerprint() != described["fingerprint"]:
        raise CheckpointError(
            f"{encoder_folder} is not the {described['encoder']} that {source.name} was trained on: "
            f"pull it anew, python -m model pull {described['encoder']}"
        )
    try:
        net = SpanNet(encoder.config, int(described["upper_layers"]))
        net.load_state_dict(unpacked(load_file(source / WEIGHTS_FILE)))
        lower = int(described["lower_layers"])
        scripts = frozenset(map(str, described["scripts"]))
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"{source} cannot be read: {error}. Install Lorebase again") from error
    dtype = dtype or choose("auto", torch.device("cpu"))
    pieced = Pieced(cut or encoder.tokenizer_file, encoder.config.n_positions)
    frozen = net.to(dtype).requires_grad_(False)
    weights = hashlib.sha256((source / WEIGHTS_FILE).read_bytes()).hexdigest()
    return SpanReader(
        source.name, encoder.lower(lower, dtype), frozen, pieced, scripts=scripts, fingerprint=weights
    )


def _described(source: Path) -> dict[str, Any]:
    try:
        described = json.loads((source / CONFIG_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{source} is no span reader: {error}") from error
    if not isinstance(described, dict) or described.get("format") != FORMAT:
        raise CheckpointError(f"{source} is no span reader")
    if described.get("version") != VERSION:
        raise CheckpointError(
            f"{source}: version {described.get('version')!r}; this Lorebase reads {VERSION}"
        )
    return described
