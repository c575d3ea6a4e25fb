"""Every row of the table names a test that exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from tests.service import catalogue

HERE = Path(__file__).resolve().parent
ROW = re.compile(r"^ ?(\d{1,2}) (.+?)\s+(\S+\.py)::(\w+)$", re.MULTILINE)
ASKED = {*range(1, 9), *range(10, 17), 18, 19, 20, 25, 26, *range(31, 34), 35, *range(49, 55)}


def test_every_row_names_a_test_that_exists() -> None:
    rows = ROW.findall(catalogue.__doc__ or "")
    assert {int(number) for number, *_ in rows} == ASKED
    for _, subject, file, name in rows:
        tree = ast.parse((HERE.parent / file).resolve().read_text(encoding="utf-8"))
        names = {
            node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        }
        assert name in names, f"{subject}: {file} has no {name}"
