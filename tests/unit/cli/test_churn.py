import numpy as np
from millrace_cli.demo.churn import COLUMNS, add_malformed, generate_churn


def test_the_same_seed_gives_the_same_bytes(tmp_path):
    for name, seed in (("a", 7), ("b", 7), ("c", 8)):
        add_malformed(generate_churn(200, seed), 20, seed).write(tmp_path / name)

    first, again, other = ((tmp_path / name).read_bytes() for name in "abc")
    assert first == again
    assert first != other


def test_it_has_every_kind_of_column_and_gaps():
    table = generate_churn(2_000)
    columns = dict(zip(table.header, zip(*table.rows, strict=True), strict=True))

    assert table.header == (*COLUMNS, "churned")
    assert len(set(columns["customer_id"])) == 2_000
    assert set(columns["churned"]) == {"yes", "no"}
    assert set(columns["autopay"]) == {"yes", "no"}
    assert np.isclose(columns["last_contact_at"].count("") / 2_000, 1 / 3, atol=0.05)
    assert 0.15 < columns["churned"].count("yes") / 2_000 < 0.5


def test_malformed_rows_are_added_and_the_others_stay():
    table = generate_churn(500)

    broken = add_malformed(table, 60)

    assert len(broken.rows) == 560
    intact = iter(broken.rows)
    assert all(any(row == other for other in intact) for row in table.rows)
    lengths = [len(row) for row in broken.rows if len(row) != len(table.header)]
    assert sum(length > len(table.header) for length in lengths) == 20
    assert sum(length < len(table.header) for length in lengths) == 20


def test_the_target_can_be_called_otherwise():
    assert generate_churn(10, target="target").header[-1] == "target"
