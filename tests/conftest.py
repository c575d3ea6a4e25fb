"""Settings and fixtures of the whole suite; the settings are made before anything imports torch."""

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

# `make test` says the same of the same code every time; `make nightly` looks for new examples. How long one
# takes on a busy machine says nothing.
settings.register_profile("steady", derandomize=True, deadline=None)
settings.register_profile("nightly", derandomize=False, deadline=None)
settings.load_profile("nightly" if "LOREBASE_NIGHTLY" in os.environ else "steady")

os.environ.setdefault(
    "GOMP_SPINCOUNT", "2000"
)  # as the commands set it: threads that wait give their core away


@pytest.fixture
def one_thread() -> Iterator[None]:
    """One thread of torch: tiny products are quicker so, and bit-equal from run to run."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
