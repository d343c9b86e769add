"""The table of docs/training.md is what is searched."""

from pathlib import Path

import pytest
from millrace.training.search_plan import (
    FEW_ROWS,
    MAX_ONE_HOT_OUTPUTS,
    MAX_ONE_HOT_VALUES,
    MAX_ONE_HOT_VALUES_OF_FEW_ROWS,
)
from millrace.training.search_space import SEARCH_SPACES

TEXT = (Path(__file__).resolve().parents[3] / "docs" / "training.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("space", SEARCH_SPACES, ids=lambda space: f"{space.candidate}-{min(space.tasks)}")
def test_every_candidate_and_its_ranges_are_documented(space):
    (line,) = [line for line in TEXT.splitlines() if line.startswith("|") and f"`{space.candidate}`" in line]

    for name, known in space.ranges.items():
        assert f"`{name}`" in line
        assert known.describe() in line


def test_the_limits_are_documented():
    assert f"{MAX_ONE_HOT_OUTPUTS:,} outputs" in TEXT
    assert f"at most {MAX_ONE_HOT_VALUES} values" in TEXT
    assert f"Up to {FEW_ROWS:,} training rows, the vector may have {MAX_ONE_HOT_VALUES_OF_FEW_ROWS} values" in TEXT
