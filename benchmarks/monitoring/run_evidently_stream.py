"""The same streams through Evidently's data drift preset with its defaults, every window by itself.

    .millrace/benchmarks/evidently/bin/python benchmarks/monitoring/run_evidently_stream.py --rates 200 2000

Its environment is made by ``compare.py``; windows hold as many rows as Millrace does. Two ways to alarm are counted:
any column drifted, and the preset's own verdict on the dataset (half of the columns).
"""

import argparse
import logging
import statistics
import warnings
from dataclasses import replace

import pandas as pd
from evidently import DataDefinition, Dataset, Report
from evidently.presets import DataDriftPreset
from streams import GRADES, NUMBERS, TRAINING_ROWS, WORDS, Shift, draw, draw_days

ROWS_NEEDED = 200
DEFINITION = DataDefinition(numerical_columns=list(NUMBERS), categorical_columns=list(WORDS))


def judge(reference: Dataset, number: int, window: int, rate: int, shift: Shift) -> tuple[bool, bool]:
    """Return whether any column drifted in a window, and whether the dataset did."""
    hours = max(1, -(-ROWS_NEEDED // rate))
    numbers = range(window * hours, window * hours + hours)
    parts = [pd.DataFrame(draw(rate, (number, 3, hour), shift, hour).columns) for hour in numbers]
    present = Dataset.from_pandas(pd.concat(parts, ignore_index=True), data_definition=DEFINITION)
    document = Report([DataDriftPreset()]).run(present, reference).dict()
    [dataset] = [metric["value"] for metric in document["metrics"] if "share" in str(metric["value"])]
    return dataset["count"] > 0, dataset["share"] >= 0.5  # noqa: PLR2004  # the preset's default


def reference_of(number: int, season: float) -> Dataset:
    """Return a stream's training data, of whole days."""
    frame = pd.DataFrame(draw_days(TRAINING_ROWS, (number, 1), Shift(season=season)).columns)
    return Dataset.from_pandas(frame, data_definition=DEFINITION)


def main(chosen: argparse.Namespace) -> None:
    """Print alarms on unchanged windows, then the first window in which each shift was told."""
    print(
        "\n| rows an hour | windows | any column, per 1,000 windows | dataset, per 1,000 windows |\n|---|---|---|---|"
    )
    season = chosen.season
    for rate in chosen.rates:
        found = [
            judge(reference, number, window, rate, Shift(season=season))
            for number, reference in ((number, reference_of(number, season)) for number in range(chosen.streams))
            for window in range(chosen.windows)
        ]
        columns, datasets = (sum(one[place] for one in found) / len(found) * 1_000 for place in (0, 1))
        print(f"| {rate:,} | {len(found)} | {columns:.0f} | {datasets:.0f} |", flush=True)
    if not chosen.shifted:
        return
    print("\n| shift | grade | rows an hour | any column: windows, share | dataset: windows, share |")
    print("|---|---|---|---|---|")
    wanted = [(kind, grade, shift) for kind in GRADES if chosen.kinds in kind for grade, shift in GRADES[kind].items()]
    for kind, grade, shift in wanted:
        for rate in chosen.rates:
            told = first_told(chosen.shifted, rate, replace(shift, season=season))
            print(f"| {kind} | {grade} | {rate:,} | {told} |", flush=True)


def first_told(shifted: int, rate: int, shift: Shift, most: int = 5) -> str:
    """Return the median first window and the share of streams told within ``most``, by either way to alarm."""
    firsts: list[list[int]] = [[], []]
    for number in range(10_000, 10_000 + shifted):
        reference = reference_of(number, shift.season)
        found = [judge(reference, number, window, rate, shift) for window in range(most)]
        for place in (0, 1):
            firsts[place] += [window + 1 for window, one in enumerate(found) if one[place]][:1]
    cells = [f"{statistics.median(told):g}, {len(told) / shifted:.0%}" if told else "never, 0%" for told in firsts]
    return " | ".join(cells)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=10)
    parser.add_argument("--windows", type=int, default=20)
    parser.add_argument("--rates", type=int, nargs="+", default=[200, 2_000])
    parser.add_argument("--shifted", type=int, default=5)
    parser.add_argument("--season", type=float, default=0.0, help="daily wave, in deviations")
    parser.add_argument("--kinds", default="", help="only the shifts whose names hold this")
    chosen = parser.parse_args()
    main(chosen)
