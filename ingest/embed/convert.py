"""A sentence-transformers folder to an int8 ONNX graph: exported by torch, quantized by onnxruntime.

Dynamic quantization (onnxruntime's manual, "Quantize ONNX models"): weights become int8 with one scale a
column, activations get theirs as they come, so no calibration data is needed. Needs the packages of the extra
`onnx`; to run the graph they are not needed.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import warnings
from pathlib import Path
from typing import Any

from ingest.embed.onnx import INPUTS, OUTPUT
from ingest.errors import EmbedderError

_NEEDED = ("onnx", "onnxscript")


def convert(folder: Path, target: Path, name: str) -> None:
    """Write the graph of the embedder in `folder` to `target`, in one step.

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
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".making-") as work, _quiet():
            made = Path(work, "int8.onnx")
            _export(folder, Path(work, "float32.onnx"))
            _quantize(Path(work, "float32.onnx"), made)
            made.replace(target)
    except EmbedderError:
        raise
    except OSError as error:
        raise EmbedderError(
            f"{name!r} cannot be converted: {error.strerror or error} in {target.parent}. It takes room for "
            "the weights in float32, and permission to write there."
        ) from error
    except Exception as error:  # exporter and quantizer raise what they like
        raise EmbedderError(
            f"{name!r} cannot be converted to ONNX ({type(error).__name__}: {str(error)[:300]}). Use "
            f"{name.removeprefix('onnx/')!r}, the same weights without ONNX."
        ) from error


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


@contextlib.contextmanager
def _quiet() -> Any:
    """Exporter and quantizer talk a lot, on every channel there is."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
