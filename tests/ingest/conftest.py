"""What several tests of ingestion share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.ingest.tiny_models import make_embedder


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sentence-transformers folder of the e5 form with two small random layers."""
    return make_embedder(tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("tiny") / "tiny")
