"""Fixtures of this wing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ingest.settings import find_home


@pytest.fixture(scope="session")
def weights_of() -> Callable[[str], Path]:
    """Name -> folder of real installed weights; skips the test where they are not installed."""

    def find(name: str) -> Path:
        path = find_home() / "models" / name
        if not (path / "manifest.json").is_file():
            pytest.skip(f"{name} is not installed in {find_home()}; python -m model pull {name}")
        return path

    return find
