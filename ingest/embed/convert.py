"""A sentence-transformers folder to an int8 ONNX graph: exported by torch, quantized by onnxruntime.

Dynamic quantization (onnxruntime's manual, "Quantize ONNX models"): weights become int8 with one scale a
column, activations get theirs as they come, so no calibration data is needed. Needs the packages of the extra
`onnx`; to run the graph they are not needed.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from ingest.embed.onnx import INPUTS, OUTPUT
from ingest.errors import EmbedderError

_NEEDED = ("onnx", "onnxscript")
_MADE, _FAILED = "int8.onnx", "failed.json"
_START = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from ingest.embed.convert import make
sys.exit(make(*sys.argv[2:]))
"""


def convert(folder: Path, target: Path, name: str) -> None:
    """Write the graph of the embedder in `folder` to `target`, in one step; nothing is printed or logged.

    Raises:
        EmbedderError: the packages are missing, the model cannot be converted, or there is no room.
    """
    import importlib.util

    if missing := [package for package in _NEEDED if importlib.util.find_spec(package) is None]:
        raise EmbedderError(
            f"To convert {name!r} the package {missing[0]} is needed once: pip install 'lorebase[onnx]'. "
            f"Or use {name.removeprefix('onnx/')!r}, the same weights without ONNX."
        )
    try:
        target.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".making-") as work:
            failed = _made_elsewhere(folder, Path(work))
            if failed is None:
                Path(work, _MADE).replace(target)
    except OSError as error:
        failed = ("disk", str(error.strerror or error))
    if failed is None:
        return
    kind, why = failed
    if kind == "disk":
        raise EmbedderError(
            f"{name!r} cannot be converted: {why} in {target.parent}. It takes room for the weights in "
            "float32, and permission to write there."
        )
    raise EmbedderError(
        f"{name!r} cannot be converted to ONNX ({why}). Use {name.removeprefix('onnx/')!r}, the same weights "
        "without ONNX."
    )


def _made_elsewhere(folder: Path, work: Path) -> tuple[str, str] | None:
    """Make the graph in `work`, in a process of its own; what went wrong, as a kind and a reason.

    Exporter and quantizer talk on every channel there is, and hold the weights twice: neither is for a
    process that serves.
    """
    paths = json.dumps([path for path in sys.path if path])
    done = subprocess.run(
        [sys.executable, "-c", _START, paths, str(folder), str(work)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    if done.returncode == 0:
        return None
    try:
        kind, why = json.loads(Path(work, _FAILED).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return "process", f"its process ended with status {done.returncode}, perhaps for want of memory"
    return kind, why


def make(folder: str, work: str) -> int:
    """Make the graph in the folder `work`; what runs in the process of its own. Returns its exit status."""
    made = Path(work, "float32.onnx")
    try:
        _export(Path(folder), made)
        _quantize(made, Path(work, _MADE))
    except Exception as error:  # exporter and quantizer raise what they like
        failed = ("other", f"{type(error).__name__}: {str(error)[:300]}")
        if isinstance(error, OSError) and error.strerror:  # one of the system; transformers raises its own
            failed = ("disk", error.strerror)
    else:
        return 0
    Path(work, _FAILED).write_text(json.dumps(failed), encoding="utf-8")
    return 1


def _export(folder: Path, target: Path) -> None:
    import torch
    from sentence_transformers import SentenceTransformer

    model: Any = SentenceTransformer(
        str(folder),
        device="cpu",
        local_files_only=True,
        trust_remote_code=False,
        model_kwargs={
            "dtype": torch.float32,
            "use_safetensors": True,
            "attn_implementation": "eager",  # other kernels leave nodes that the quantizer does not know
        },
    )

    class Whole(torch.nn.Module):
        """From ids to sentence vectors, with whatever modules the folder names."""

        def __init__(self) -> None:
            super().__init__()
            self.modules_in_order = torch.nn.ModuleList(model)

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            features = {"input_ids": input_ids, "attention_mask": attention_mask}
            for module in self.modules_in_order:
                features = module(features)
            return features[OUTPUT]

    ids = torch.ones(2, 16, dtype=torch.long)
    batch, tokens = torch.export.Dim("batch"), torch.export.Dim("tokens", max=model.max_seq_length)
    shapes = {name: {0: batch, 1: tokens} for name in INPUTS}
    with torch.inference_mode():
        torch.onnx.export(
            Whole().eval(),
            (ids, torch.ones_like(ids)),
            str(target),
            input_names=list(INPUTS),
            output_names=[OUTPUT],
            dynamic_shapes=shapes,
            dynamo=True,
            external_data=True,  # one file may not pass 2 GB
            verbose=False,
        )


def _quantize(source: Path, target: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(source, target, per_channel=True, weight_type=QuantType.QInt8)
