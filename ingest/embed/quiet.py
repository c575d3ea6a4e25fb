"""Models of sentence-transformers, opened without a word on the terminal and with nothing from elsewhere.

No network, no code that came with a model, no pickled weights. The libraries are imported here, when a model
is first wanted: importing torch takes seconds.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Literal


def open_model(
    kind: Literal["SentenceTransformer", "CrossEncoder"], folder: Path, dtype: str = "float32"
) -> Any:
    """The model in a folder, on the processor.

    Args:
        kind: a class of sentence-transformers.
        folder: with its weights as safetensors.
        dtype: what the weights are held in, by torch's name. They are read as float32 and changed then: to
            read them as another, transformers changes torch's default for the whole process meanwhile, and
            tensors that other threads make (a language model that is being loaded) would be of that dtype.

    Raises:
        Exception: whatever the library raises on a folder that it cannot read.
    """
    for noisy in ("sentence_transformers", "transformers"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    import sentence_transformers
    import torch
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call, unused-ignore]
    model = getattr(sentence_transformers, kind)(
        str(folder),
        device="cpu",
        local_files_only=True,
        trust_remote_code=False,
        model_kwargs={"dtype": torch.float32, "use_safetensors": True},
    )
    return model.to(getattr(torch, dtype))
