"""Generated table of telephone customers with churn: every type of column, and malformed rows.

The same seed gives the same bytes. Write a table to a file::

    python -m millrace_cli.demo.churn churn.csv --rows 4000 --malformed 240 --seed 7

======================  =========  ================================================================
column                  type       generation
======================  =========  ================================================================
customer_id             id         ``C`` and a number; independent of churn
signed_up_on            date       up to six years before 2026-01-01
last_contact_at         date       with the time of day; missing for a third, who had no contact
plan                    category   basic, standard, premium, family
region                  category   north, south, east, west; missing for 3 %
payment_method          category   card, transfer, invoice, wallet
autopay                 boolean    yes or no; more frequent with card and wallet
paperless               boolean    true or false; independent of churn
contract_months         integer    1, 12 or 24
support_calls           integer    Poisson, 1.3 on average
monthly_charge          number     by plan, with noise
data_gb                 number     gamma distributed; missing for 8 %
satisfaction            integer    1 to 5, falls with support calls; missing for 20 %, more often after many calls
churned                 target     yes or no, see below
======================  =========  ================================================================

The log-odds of churn are a sum of contract length, support calls, price relative to the plan, years as a customer,
satisfaction, invoices without autopay, and one interaction (many calls on a monthly contract). Linear models do well
and trees slightly better; no model is perfect, because the outcome is sampled from these odds.

Malformed rows resemble those of real exports: an additional field (a comma in an unquoted string), missing fields at
the end (a truncated line), and text in numeric columns.
"""

import argparse
import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

TARGET = "churned"
TODAY = np.datetime64("2026-01-01")

COLUMNS = (
    "customer_id",
    "signed_up_on",
    "last_contact_at",
    "plan",
    "region",
    "payment_method",
    "autopay",
    "paperless",
    "contract_months",
    "support_calls",
    "monthly_charge",
    "data_gb",
    "satisfaction",
)

_PLANS = {"basic": 19.0, "standard": 34.0, "premium": 59.0, "family": 79.0}
_PAPERLESS_SHARE = 0.6
_MISSING_SHARES = {"last_contact_at": 1 / 3, "region": 0.03, "data_gb": 0.08}
_DAYS_A_YEAR = 365.25
_MINUTES_A_YEAR = 525_600
_NUMERIC = ("contract_months", "support_calls", "monthly_charge", "data_gb")
_TEXT_FOR_NUMBERS = ("unknown", "n.v.", "see note", "#REF!", "about 20")

Array = npt.NDArray[np.generic]
Row = list[str]


@dataclass(frozen=True, slots=True)
class ChurnTable:
    """Table of strings.

    Parameters
    ----------
    header : tuple of str
        Names of the columns, the target's last.
    rows : list of list of str
        Values as in the file; a missing value is the empty string.
    """

    header: tuple[str, ...]
    rows: list[Row]

    def write(self, path: Path) -> None:
        """Write a CSV file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(self.header)
            writer.writerows(self.rows)


def generate_churn(rows: int = 4_000, seed: int = 7, target: str = TARGET) -> ChurnTable:
    """Generate a table without malformed rows.

    Parameters
    ----------
    rows : int, default=4000
        Count of customers.
    seed : int, default=7
        Seed of every random choice.
    target : str, default='churned'
        Name of the target column.
    """
    random = np.random.default_rng(seed)
    columns = _customers(random, rows)
    churned = random.random(rows) < _probability(columns)
    columns = _with_missing(random, columns)
    text = [_text(columns[name]) for name in COLUMNS]
    text.append(np.where(churned, "yes", "no").tolist())
    return ChurnTable((*COLUMNS, target), [list(row) for row in zip(*text, strict=True)])


def add_malformed(table: ChurnTable, count: int = 240, seed: int = 7) -> ChurnTable:
    """Insert ``count`` malformed rows at random positions; the other rows keep their order.

    One third has an additional field, one third is truncated, one third has text in a numeric column.
    """
    random = np.random.default_rng([seed, 1])
    sources = random.integers(0, len(table.rows), count)
    places = np.sort(random.integers(0, len(table.rows) + 1, count))
    rows: list[Row] = []
    taken = 0
    for kind, (source, place) in enumerate(zip(sources, places, strict=True)):
        rows += table.rows[taken:place]
        taken = int(place)
        rows.append(_break(random, table.header, list(table.rows[source]), kind % 3))
    return ChurnTable(table.header, rows + table.rows[taken:])


def _customers(random: np.random.Generator, rows: int) -> dict[str, Array]:
    plan = random.choice(list(_PLANS), rows, p=[0.35, 0.35, 0.18, 0.12])
    payment = random.choice(["card", "transfer", "invoice", "wallet"], rows, p=[0.45, 0.25, 0.18, 0.12])
    autopay = random.random(rows) < np.where(np.isin(payment, ["card", "wallet"]), 0.8, 0.35)
    support_calls = random.poisson(1.3, rows)
    satisfaction = np.clip(np.rint(4.2 - 0.55 * support_calls + random.normal(0, 0.9, rows)), 1, 5)
    price = np.array([_PLANS[name] for name in plan.tolist()])
    contact = TODAY.astype("datetime64[m]") - random.integers(0, _MINUTES_A_YEAR, rows).astype("timedelta64[m]")
    return {
        "customer_id": np.char.add("C", np.char.zfill((100_000 + random.permutation(rows)).astype(np.str_), 6)),
        "signed_up_on": TODAY - random.integers(0, int(6 * _DAYS_A_YEAR), rows).astype("timedelta64[D]"),
        "last_contact_at": contact.astype("datetime64[s]"),
        "plan": plan,
        "region": random.choice(["north", "south", "east", "west"], rows),
        "payment_method": payment,
        "autopay": np.where(autopay, "yes", "no"),
        "paperless": np.where(random.random(rows) < _PAPERLESS_SHARE, "true", "false"),
        "contract_months": random.choice([1, 12, 24], rows, p=[0.5, 0.3, 0.2]),
        "support_calls": support_calls,
        "monthly_charge": np.round(price * random.normal(1.0, 0.12, rows), 2),
        "data_gb": np.round(random.gamma(2.0, 6.0, rows), 1),
        "satisfaction": satisfaction.astype(np.int64),
    }


def _probability(columns: dict[str, Array]) -> npt.NDArray[np.float64]:
    """Return each customer's probability of churn, as the docstring of this module defines it."""
    price = np.array([_PLANS[name] for name in columns["plan"].tolist()])
    years = (TODAY - columns["signed_up_on"].astype("datetime64[D]")).astype(np.float64) / _DAYS_A_YEAR
    monthly = columns["contract_months"] == 1
    calls = columns["support_calls"].astype(np.float64)
    log_odds = (
        -1.7
        + 1.3 * monthly
        - 0.9 * (columns["contract_months"] == 24)  # noqa: PLR2004  # the longest contract
        + 0.45 * calls
        + 3.5 * (columns["monthly_charge"].astype(np.float64) / price - 1.0)
        - 0.25 * years
        - 0.5 * (columns["satisfaction"].astype(np.float64) - 3.0)
        + 0.8 * ((columns["payment_method"] == "invoice") & (columns["autopay"] == "no"))
        + 1.5 * (monthly & (calls >= 3))  # noqa: PLR2004  # many calls
    )
    return np.asarray(1.0 / (1.0 + np.exp(-1.3 * log_odds)))


def _with_missing(random: np.random.Generator, columns: dict[str, Array]) -> dict[str, Array]:
    """Remove values after the outcome was sampled from them."""
    rows = len(columns["plan"])
    calls = columns["support_calls"].astype(np.float64)
    share = _MISSING_SHARES
    missing = {
        "last_contact_at": random.random(rows) < share["last_contact_at"],
        "region": random.random(rows) < share["region"],
        "data_gb": random.random(rows) < share["data_gb"],
        "satisfaction": random.random(rows) < np.clip(0.1 + 0.08 * calls, 0, 0.8),
    }
    return {
        name: np.where(missing[name], "", np.array(_text(values))) if name in missing else values
        for name, values in columns.items()
    }


def _text(values: Array) -> list[str]:
    return [str(value) for value in values.tolist()] if values.dtype.kind != "M" else values.astype(np.str_).tolist()


def _break(random: np.random.Generator, header: Sequence[str], row: Row, kind: int) -> Row:
    if kind == 0:
        position = int(random.integers(1, len(row)))
        return [*row[:position], "moved, see letter", *row[position:]]
    if kind == 1:
        return row[: int(random.integers(2, len(row) - 2))]
    position = header.index(str(random.choice(_NUMERIC)))
    row[position] = str(random.choice(_TEXT_FOR_NUMBERS))
    return row


def main(arguments: Sequence[str] | None = None) -> None:
    """Write a table to a file."""
    parser = argparse.ArgumentParser(description="Write a generated table of telephone customers with churn.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--rows", type=int, default=4_000)
    parser.add_argument("--malformed", type=int, default=240)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--target", default=TARGET)
    options = parser.parse_args(arguments)
    table = generate_churn(options.rows, options.seed, options.target)
    add_malformed(table, options.malformed, options.seed).write(options.file)


if __name__ == "__main__":
    main()
