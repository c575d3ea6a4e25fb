"""Models of sentence-transformers, opened without a word on the terminal and with nothing from elsewhere.

No network, no code that came with a model, no pickled weights. The libraries are imported here, when a model
is first wanted: importing torch takes seconds.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Literal


def open_model(kind: Literal["SentenceTransformer", "CrossEncoder"], folder: Path, **weights: Any) -> Any:
    """The model in a folder, on the processor.

    Args:
        kind: a class of sentence-transformers.
        folder: with its weights as safetensors.
        **weights: more about how these are read, such as their `dtype`.

    Raises:
        Exception: whatever the library raises on a folder that it cannot read.
    """
    for noisy in ("sentence_transformers", "transformers"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    import sentence_transformers
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call, unused-ignore]
    return getattr(sentence_transformers, kind)(
        str(folder),
        device="cpu",
        local_files_only=True,
        trust_remote_code=False,
        model_kwargs={**weights, "use_safetensors": True},
    )
