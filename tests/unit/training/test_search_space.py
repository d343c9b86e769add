"""Drawing: points that fill the space, ranges, and what a spec may change about them."""

import numpy as np
import pytest
from millrace.errors import InvalidInputError
from millrace.spec import ModelSpec
from millrace.training.search_plan import halton_points, radical_inverse
from millrace.training.search_space import (
    LOGARITHM,
    OF_LOGARITHM,
    SEARCH_SPACES,
    Choice,
    NumberRange,
    override_search_space,
    search_spaces_for,
    select_search_spaces,
)
from scipy.stats import qmc


def test_radical_inverse_by_hand():
    assert [radical_inverse(index, 2) for index in range(1, 5)] == [0.5, 0.25, 0.75, 0.125]
    assert radical_inverse(5, 3) == pytest.approx(2 / 3 + 1 / 9)


def test_points_are_those_of_scipy_but_for_the_shift():
    ours = halton_points(50, 5, seed=7)
    shift = np.random.default_rng(7).random(5)
    theirs = qmc.Halton(5, scramble=False).random(51)[1:]

    np.testing.assert_allclose((ours - shift) % 1.0, theirs, atol=1e-12)


def test_points_fill_the_square_more_evenly_than_chance():
    ours = qmc.discrepancy(halton_points(64, 2, seed=1))
    by_chance = [qmc.discrepancy(np.random.default_rng(seed).random((64, 2))) for seed in range(20)]

    assert ours < min(by_chance)


def test_another_seed_gives_other_points_and_more_points_change_none():
    assert not np.allclose(halton_points(8, 3, seed=1), halton_points(8, 3, seed=2))
    np.testing.assert_array_equal(halton_points(8, 3, seed=1), halton_points(20, 3, seed=1)[:8])


def test_too_many_dimensions_are_refused():
    with pytest.raises(ValueError, match="9 dimensions, and at most 8"):
        halton_points(1, 9, seed=0)


@pytest.mark.parametrize("space", SEARCH_SPACES, ids=lambda space: f"{space.candidate}-{min(space.tasks)}")
def test_every_draw_is_inside_its_range_and_so_is_the_first_trial(space):
    assert set(space.first) == set(space.ranges)
    assert set(space.second) - {LOGARITHM, *OF_LOGARITHM.values()} in (set(), set(space.ranges))
    for name, known in space.ranges.items():
        drawn = [known.at(share) for share in (0.0, 0.25, 0.5, 0.999999)]
        if isinstance(known, Choice):
            assert set(map(str, drawn)) <= set(map(str, known.values))
            assert space.first[name] in known.values
        else:
            # Logarithms have no zero, which is scikit-learn's default of a penalty.
            starts = [start[name] for start in (space.first, space.second) if start.get(name)]
            assert all(known.low <= value <= known.high for value in [*drawn, *starts])
            assert not known.whole or all(isinstance(value, int) for value in drawn)


def test_an_interval_by_factors_is_even_in_factors_and_reaches_its_ends():
    interval = NumberRange(0.01, 100.0, log=True)

    assert interval.at(0.5) == pytest.approx(1.0)
    assert (interval.at(0.0), interval.at(0.9999999)) == (0.01, pytest.approx(100.0, rel=1e-3))
    whole = NumberRange(1, 3, whole=True)
    assert [whole.at(share) for share in (0.0, 0.3, 0.4, 0.6, 0.7, 0.99)] == [1, 1, 2, 2, 3, 3]


def overridden(document: dict, task="binary"):
    spec = ModelSpec.parse({"training": {"parameters": document}})
    return {
        space.candidate: space for space in override_search_space(search_spaces_for(task), spec.training.parameters)
    }


def test_a_spec_bounds_the_iterations_of_boosting():
    space = overridden({"hist_gradient_boosting": {"max_iter": {"values": [70]}}})["hist_gradient_boosting"]

    for start in (space.first, space.second):
        assert space.complete(start, 2, 500)["max_iter"] == 70


def test_a_spec_overrides_both_starts():
    spaces = overridden({"hist_gradient_boosting": {"max_leaf_nodes": {"low": 20, "high": 40}}})

    assert spaces["hist_gradient_boosting"].first["max_leaf_nodes"] == 31
    assert 20 <= spaces["hist_gradient_boosting"].second["max_leaf_nodes"] <= 40


def test_a_spec_bounds_the_trees_of_a_logarithm():
    small = {"max_leaf_nodes": {"low": 5, "high": 10}, "max_features": {"low": 0.2, "high": 0.5}}
    second = overridden({"hist_gradient_boosting": small}, "regression")["hist_gradient_boosting"].second

    assert second[OF_LOGARITHM["max_leaf_nodes"]] == 8
    assert OF_LOGARITHM["max_features"] not in second


def test_a_spec_overrides_a_range_and_fixes_a_value():
    spaces = overridden(
        {
            "logistic_regression": {"C": {"low": 0.1, "high": 0.2}},
            "hist_gradient_boosting": {"max_leaf_nodes": {"values": [31]}},
            "neural_network": {"hidden_layer_sizes": {"values": [[64]]}},
        }
    )

    assert spaces["logistic_regression"].ranges["C"] == NumberRange(0.1, 0.2, log=True)
    assert 0.1 <= spaces["logistic_regression"].first["C"] <= 0.2
    assert spaces["hist_gradient_boosting"].first["max_leaf_nodes"] == 31
    assert spaces["hist_gradient_boosting"].first["learning_rate"] == 0.1
    assert spaces["neural_network"].first["hidden_layer_sizes"] == [64]


@pytest.mark.parametrize(
    ("document", "field", "message"),
    [
        ({"ridge": {"alpha": {"values": [1.0]}}}, "ridge", "not a candidate of this run"),
        (
            {"random_forest": {"criterion": {"values": ["gini"]}}},
            "random_forest.criterion",
            "not searched; the searched parameters are",
        ),
        (
            {"hist_gradient_boosting": {"categorical_features": {"values": ["from_dtype"]}}},
            "hist_gradient_boosting.categorical_features",
            "the ONNX model is silently wrong",
        ),
        (
            {"logistic_regression": {"C": {"low": 0.1, "high": 1e9}}},
            "logistic_regression.C",
            "1000000000.0 is outside of what is known to export: 0.001 to 100, by factors",
        ),
        (
            {"neural_network": {"hidden_layer_sizes": {"low": 1, "high": 2}}},
            "neural_network.hidden_layer_sizes",
            "outside of what is known to export",
        ),
        (
            {"random_forest": {"max_depth": {"values": [3.5]}}},
            "random_forest.max_depth",
            "3.5 is outside of what is known to export: 4 to 24",
        ),
    ],
)
def test_what_is_not_known_to_export_is_refused_with_the_reason(document, field, message):
    with pytest.raises(InvalidInputError, match="the spec's parameters are invalid") as caught:
        overridden(document)

    assert [fault.field for fault in caught.value.fields] == [f"training.parameters.{field}"]
    assert message in caught.value.fields[0].message


@pytest.mark.parametrize(
    "parameters",
    [{"C": {}}, {"C": {"low": 1.0}}, {"C": {"low": 2.0, "high": 1.0}}, {"C": {"values": []}}],
)
def test_a_range_that_is_none_is_refused_by_the_spec(parameters):
    with pytest.raises(InvalidInputError, match=r"training\.parameters\.logistic_regression\.C"):
        ModelSpec.parse({"training": {"parameters": {"logistic_regression": parameters}}})


def test_a_model_that_is_not_offered_is_refused_with_the_reason():
    with pytest.raises(InvalidInputError, match="knn: scikit-learn's neighbours break ties of distance differently"):
        select_search_spaces("binary", ("knn", "ridge"))
