"""Examples of Hypothesis are the same in every run of the suite: a change fails by its own fault, not by chance."""

import importlib.util
import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st


def draw_examples() -> list[object]:
    drawn: list[object] = []

    @given(st.lists(st.integers() | st.text() | st.floats(allow_nan=False)))
    def draw(example: list[object]) -> None:
        drawn.append(example)

    draw()
    return drawn


@pytest.mark.skipif("FUZZ_EXAMPLES" in os.environ, reason="a long run looks for examples that nobody has seen")
def test_examples_depend_neither_on_chance_nor_on_what_other_tests_imported(tmp_path: Path):
    before = draw_examples()
    path = tmp_path / "imported.py"
    path.write_text(f"numbers = {list(range(1_000, 1_100))}\nnames = {[f'name {n}' for n in range(100)]}\n")
    spec = importlib.util.spec_from_file_location("imported", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "imported", module)
        spec.loader.exec_module(module)
        after = draw_examples()
    assert after == before
