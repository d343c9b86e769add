"""Two datasets side by side: what their profiles tell of a shift."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from millrace.data.compare import StoredDataset, compare_columns, compare_datasets, cumulative_counts, grade_shift
from millrace.data.dataset_documents import ColumnProfile, DatasetManifest, DatasetProfile, TargetProfile
from millrace.data.profile import describe_numbers, describe_strings
from millrace.documents import from_plain
from millrace.schema import Column, TableSchema
from millrace.stats.distances import population_stability_index
from msgspec.structs import replace

SAMPLES = Path(__file__).parents[2] / "samples" / "f0571cb"


def of_numbers(values, missing=0, **changes):
    numbers = np.asarray(values, dtype=np.float64)
    described = describe_numbers(numbers, None, whole=False)
    return from_plain(ColumnProfile, column(missing, len(numbers)) | described | changes)


def of_strings(values, missing=0, **changes):
    described = describe_strings(np.array(values, dtype=object), None)
    return from_plain(ColumnProfile, column(missing, len(values)) | described | changes)


def column(missing, known):
    share = missing / (missing + known)
    described = {"name": "x", "type": "number", "role": "feature", "nullable": True, "reason": "", "sensitive": False}
    return described | {"missing": missing, "missing_share": share, "association": None}


def index(before, after):
    counts = (np.array(counted, dtype=np.float64) for counted in (before, after))
    return population_stability_index(*counts).value


def manifest(rows):
    stored = json.loads((SAMPLES / "dataset_manifest.json").read_text(encoding="utf-8"))
    row_counts = {"read": rows + 1, "accepted": rows, "quarantined": 1}
    return replace(DatasetManifest.read(stored), rows=rows, columns=2, row_counts=row_counts)


class TestIndex:
    def test_by_hand(self):
        # (0.5 - 0.25) ln(0.5 / 0.25) + (0.5 - 0.75) ln(0.5 / 0.75)
        assert index([50, 50], [25, 75]) == pytest.approx(0.27465307)

    @given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=10))
    def test_never_negative_and_the_same_both_ways(self, cells):
        before, after = zip(*cells, strict=True)
        assert index(before, after) >= 0.0
        assert index(before, after) == pytest.approx(index(after, before))

    @pytest.mark.parametrize(
        ("psi", "meaning"), [(None, "unknown"), (0.0, "stable"), (0.1, "moderate"), (0.25, "large")]
    )
    def test_what_it_is_taken_to_mean(self, psi, meaning):
        assert grade_shift(psi) == meaning


class TestNumbers:
    def test_counts_below_a_point_are_nearly_those_of_the_data(self):
        values = np.random.default_rng(0).normal(size=20_000)
        points = np.linspace(-2, 2, 17)
        truth = np.array([(values < point).sum() for point in points])
        found = cumulative_counts(of_numbers(values), points)
        assert np.abs(found - truth).max() < 0.01 * len(values)

    def test_where_many_rows_have_one_value_counts_are_exact(self):
        values = np.repeat([0.0, 1.0, 2.0, 5.0], [400, 300, 200, 100])
        points = np.array([0.0, 1.0, 2.0, 5.0])
        assert cumulative_counts(of_numbers(values), points).tolist() == [0.0, 400.0, 700.0, 900.0]

    @pytest.mark.parametrize("shift", [0.0, 0.1, 0.3, 1.0])
    def test_the_index_is_nearly_that_of_the_rows(self, shift):
        generator = np.random.default_rng(1)
        before, after = generator.normal(size=10_000), generator.normal(shift, 1.0, size=8_000)
        profile = of_numbers(before)
        edges = np.array(profile.bins.edges)
        counts = np.bincount(np.searchsorted(edges, after, "right"), minlength=len(edges) + 1)
        truth = index(profile.bins.counts, counts)
        found = compare_columns(profile, of_numbers(after)).psi
        assert found == pytest.approx(truth, abs=0.02)

    def test_missing_values_have_an_index_of_their_own(self):
        values = np.arange(100.0)
        assert compare_columns(of_numbers(values), of_numbers(values)).psi == 0.0
        found = compare_columns(of_numbers(values), of_numbers(values, missing=100))
        assert (found.psi, found.verdict) == (0.0, "large")
        assert found.missing_psi > 0.25

    def test_columns_without_values_cannot_be_compared(self):
        empty = from_plain(ColumnProfile, column(5, 0) | {"distinct": 0})
        assert compare_columns(empty, of_numbers([1.0, 2.0])).verdict == "unknown"


class TestWords:
    def test_a_new_value_is_a_shift_and_is_named(self):
        found = compare_columns(of_strings(["a"] * 60 + ["b"] * 40), of_strings(["a"] * 60 + ["c"] * 40))
        assert found.verdict == "large"
        assert [share["value"] for share in found.shares] == ["b", "c"]
        assert found.shares[1] == {"value": "c", "before": 0.0, "after": 0.4}

    def test_values_of_a_sensitive_column_are_not_named(self):
        found = compare_columns(of_strings(["a"] * 9 + ["b"]), of_strings(["b"] * 10, sensitive=True))
        assert found.verdict == "large"
        assert found.shares == []

    def test_rare_values_that_change_places_are_no_shift(self):
        generator = np.random.default_rng(2)
        words = [f"w{i}" for i in range(30)]
        before, after = (of_strings(generator.choice(words, 5_000).tolist()) for _ in range(2))
        assert compare_columns(before, after).verdict == "stable"

    def test_a_column_that_names_rows_is_not_compared(self):
        before, after = (of_strings([f"{side}{i}" for i in range(500)]) for side in "ab")
        assert compare_columns(before, after).psi is None


def test_datasets_are_compared_by_schema_volume_target_and_columns():
    def dataset(rows, shift, **schema):
        columns = (Column("x", "number"), Column("label", "integer", "target", **schema))
        target = TargetProfile(name="label", task="binary", classes={"0": rows - 1, "1": 1}, positive="1")
        described = [of_numbers(np.arange(float(rows)) + shift), of_strings(["0"] * rows, name="label")]
        profile = DatasetProfile(rows=rows, columns=described, target=target)
        return StoredDataset(manifest(rows), profile, TableSchema(columns, "binary", ("0", "1")))

    difference = compare_datasets(dataset(100, 0.0), dataset(50, 200.0, formats=("iso",)))
    assert difference["schema"]["kind"] == "compatible"
    assert difference["volume"] == {"rows": [100, 50], "columns": [2, 2], "quarantined_rows": [1, 1], "row_ratio": 0.5}
    assert difference["target"]["shares"][1] == {"value": "1", "before": 0.01, "after": 0.02}
    assert [(found["name"], found["verdict"]) for found in difference["columns"]] == [
        ("x", "large"),
        ("label", "stable"),
    ]
