"""A GGUF file made into a model of a running Ollama, through its official client.

The file is sent as a blob under its SHA-256, then `/api/create` joins it with template, system turn and
parameters: the same that the Modelfile beside it says, since both come out of `model.template_export`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import ollama

from model.errors import ExportError

CONNECT_TIMEOUT_S = 5.0
#: `[HOST/][NAMESPACE/]MODEL[:TAG]`, each part as Ollama takes it.
PART = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}"
NAME = re.compile(rf"(?:(?:{PART}(?::\d+)?/)?{PART}/)?{PART}(?::{PART})?")


def check_name(name: str) -> None:
    """Refuse what Ollama would not take for a model's name, before anything is written or sent.

    Raises:
        ExportError: names what a name is made of.
    """
    if not NAME.fullmatch(name):
        raise ExportError(
            f"{name!r} cannot be a model's name in Ollama: NAME or NAME:TAG, of letters, digits, _ . - and "
            "at most 80 of them"
        )


def create(
    name: str,
    file: Path,
    described: Mapping[str, Any],
    address: str,
    say: Callable[[str], None] = lambda _: None,
) -> None:
    """Create, or replace, a model on the Ollama at `address`.

    Args:
        name: of the model there.
        file: GGUF.
        described: template, system and parameters (`model.template_export.ollama_fields`).
        address: HOST:PORT or a URL, as OLLAMA_HOST has it.
        say: gets a line at each step.

    Raises:
        ExportError: it does not answer, refuses the file or the model, or breaks off.
    """
    check_name(name)
    client = ollama.Client(address, timeout=httpx.Timeout(None, connect=CONNECT_TIMEOUT_S))
    step = f"sending {file.name}"
    try:
        say(f"{step} ({file.stat().st_size / 1e6:.0f} MB) to Ollama at {address}")
        digest = client.create_blob(file)
        step = f"creating {name}"
        last = ""
        for progress in client.create(model=name, files={file.name: digest}, stream=True, **described):
            if progress.status and progress.status != last:
                last = progress.status
                say(f"Ollama: {last}")
        if last != "success":
            raise ExportError(
                f"Ollama at {address} broke off while {step} (it last said {last or 'nothing'!r}); try again"
            )
    except ollama.ResponseError as error:
        raise ExportError(f"Ollama at {address} refused {step}: {error.error}") from error
    except (ConnectionError, httpx.ConnectError, httpx.ConnectTimeout) as error:
        raise ExportError(
            f"Ollama does not answer at {address}. Start it (ollama serve), or set OLLAMA_HOST; {file} is "
            "written and need not be exported again: ollama create with the Modelfile beside it does the same"
        ) from error
    except (httpx.HTTPError, json.JSONDecodeError, ValueError, OSError) as error:
        raise ExportError(f"Ollama at {address} failed while {step}: {error}") from error
    finally:
        client.close()  # type: ignore[no-untyped-call]
