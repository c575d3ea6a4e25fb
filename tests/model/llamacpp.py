"""llama.cpp in this process, through the xllamacpp package: the oracle for GGUF files that are written here."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import httpx
import pytest


class LlamaCpp:
    """One loaded GGUF file; ids in, ids and log-probabilities out."""

    def __init__(self, file: Path) -> None:
        xllamacpp = pytest.importorskip(
            "xllamacpp",
            reason="llama.cpp is not installed: pip install 'lorebase[test]'",
            exc_type=ImportError,
        )
        params = xllamacpp.CommonParams()
        params.model.path = str(file)
        params.n_ctx, params.n_parallel, params.warmup, params.verbosity = 512, 1, False, 0
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = min(2, os.cpu_count() or 1)
        params.prompt_cache_all = False
        self._server = xllamacpp.Server(params)

    def greedy(self, prompt: list[int], n: int) -> list[int]:
        """The next `n` likeliest tokens, one after the other; fewer where an end token comes first."""
        return self._complete(prompt, n, return_tokens=True)["tokens"]

    def log_probabilities(self, prompt: list[int], vocab_size: int, chosen: int) -> list[float]:
        """Of every token behind the prompt, by id; minus infinity for those that it does not list.

        The server lists nothing where the token it chooses is half a character. So it is made to choose
        `chosen`, which is to be plain text; what it lists are the probabilities before that.
        """
        bias = {"logit_bias": [[chosen, 1000.0]]}
        reply = self._complete(prompt, 1, n_probs=vocab_size, **bias)["completion_probabilities"][0]
        assert reply["id"] == chosen
        found = [float("-inf")] * vocab_size
        for entry in reply["top_logprobs"]:
            found[entry["id"]] = entry["logprob"]
        return found

    def tokenize(self, text: str, *, add_special: bool = False) -> list[int]:
        """Ids of a text in which nothing is a control token."""
        asked = {"content": text, "add_special": add_special, "parse_special": False}
        return self._post("tokenize", asked)["tokens"]

    def _complete(self, prompt: list[int], n: int, **how: Any) -> dict[str, Any]:
        asked = {"prompt": prompt, "n_predict": n, "temperature": 0, "cache_prompt": False}
        return self._post("completion", asked | how)

    def _post(self, route: str, asked: dict[str, Any]) -> dict[str, Any]:
        reply = httpx.post(f"{self._server.listening_address}/{route}", json=asked, timeout=120.0)
        return reply.raise_for_status().json()
