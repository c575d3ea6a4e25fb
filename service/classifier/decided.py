"""Decisions about the likelihood that were made before: they take long and depend on nothing that changes.

One file a decision, `LOREBASE_HOME/classifiers/.decided/HASH.json`, where the hash is of the classes, the
embedder, the model's weights and what is asked of it. Those of the classifiers that come with the program,
for the default models, come with it, too. A file that cannot be read is as good as none.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from service.classifier.fitted import Decision

logger = logging.getLogger(__name__)

#: Raise it when a change makes older decisions wrong.
VERSION = 1


class Decided:
    """The decisions of one data folder."""

    def __init__(self, folder: Path | None) -> None:
        """Keep them in `folder`; None: nowhere."""
        self._folder = folder

    @staticmethod
    def key(*what: str) -> str:
        """The name that a decision about these goes by."""
        return hashlib.sha256(json.dumps([VERSION, *what]).encode()).hexdigest()[:40]

    def get(self, key: str) -> Decision | None:
        """What was decided, or None."""
        shipped = json.loads(
            (resources.files("service.classifier") / "decided.json").read_text(encoding="utf-8")
        )
        try:
            held: dict[str, Any] = shipped[key] if key in shipped else json.loads(self._read(key))
            weights = np.array(held["weights"], dtype=np.float64)
            fits = weights.shape == (3 if held["used"] else 2,) and bool(np.isfinite(weights).all())
            spread = float(held["spread"])
            if fits and spread > 0:
                return Decision(bool(held["used"]), str(held["reason"]), weights, spread)
        except (OSError, ValueError, TypeError, KeyError):
            pass
        return None

    def put(self, key: str, decision: Decision) -> None:
        """Keep it, if that is possible: it can be made again."""
        if self._folder is None:
            return
        held = {
            "used": decision.used,
            "reason": decision.reason,
            "weights": decision.weights.tolist(),
            "spread": decision.spread,
        }
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            handle, beside = tempfile.mkstemp(prefix=".", suffix=".tmp", dir=self._folder)
            with os.fdopen(handle, "w", encoding="utf-8") as out:
                json.dump(held, out, ensure_ascii=False)
            Path(beside).replace(self._folder / f"{key}.json")
        except OSError as error:
            logger.warning("a classifier's decision is not kept: %s", error)

    def _read(self, key: str) -> str:
        if self._folder is None:
            raise FileNotFoundError
        return (self._folder / f"{key}.json").read_text(encoding="utf-8")
