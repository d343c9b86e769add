"""How wide the matrix is that estimators fit on; planning must know without scikit-learn."""

#: Strings of a column that get a one-hot output of their own; rarer ones share "all zeros" with unseen ones.
MAX_ONE_HOT_VALUES = 50
#: One-hot outputs of all columns together: with more, a wide table would not fit into memory.
MAX_ONE_HOT_OUTPUTS = 2_000


def one_hot_values(string_columns: int) -> int:
    """Return how many values of each column get an output of their own; at least two."""
    return min(MAX_ONE_HOT_VALUES, max(2, MAX_ONE_HOT_OUTPUTS // max(1, string_columns)))


def encoded_width(numbers: int, strings: int) -> int:
    """Return the most columns that a candidate's preprocessing makes of so many numbers and strings."""
    return numbers + strings * one_hot_values(strings)
