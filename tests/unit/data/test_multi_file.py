"""Files of one folder: one table, whose rows and faults still know their file."""

import csv
import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from millrace.data.dataset import dataset_id
from millrace.data.validation import ValidationResult, validate_upload
from millrace.spec import ModelSpec

HEADER = "n,city,label"


def rows_of(first: int, count: int) -> list[str]:
    return [f"{n},{('Ulm', 'Köln')[n % 2]},{n % 2}" for n in range(first, first + count)]


def csv_of(rows: list[str], header: str = HEADER) -> bytes:
    return ("\n".join([header, *rows]) + "\n").encode()


def parquet_of(rows: list[str]) -> bytes:
    table = pa_csv.read_csv(io.BytesIO(csv_of(rows))) if rows else pa.table({"n": [], "city": [], "label": []})
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


def json_of(rows: list[str]) -> bytes:
    cells = [row.split(",") for row in rows]
    return "".join(json.dumps({"n": int(n), "city": city, "label": int(y)}) + "\n" for n, city, y in cells).encode()


def examined(folder: Path, files: dict[str, bytes], **spec: object) -> ValidationResult:
    paths = []
    for number, (name, body) in enumerate(sorted(files.items())):
        path = folder / f"file-{number}"
        path.write_bytes(body)
        paths.append((name, path))
    wanted = ModelSpec.parse({"target": "label", "max_quarantined_share": 1.0, **spec})
    return validate_upload(paths, "incoming/churn/may/_SUCCESS", wanted, {}, None)


def whole(rows: list[str]) -> ValidationResult:
    return validate_upload(csv_of(rows), "may.csv", ModelSpec.parse({"target": "label"}), {}, None)


@pytest.mark.parametrize("write", [csv_of, parquet_of, json_of])
def test_the_same_rows_are_the_same_dataset_however_they_are_divided(tmp_path, write):
    found = examined(tmp_path, {"b": write(rows_of(30, 30)), "a": write(rows_of(0, 30)), "c": write(rows_of(60, 5))})
    assert found.accepted
    assert found.rows == 65
    assert found.description["files"] == "3"
    assert dataset_id(found.table) == dataset_id(whole(rows_of(0, 65)).table)


def test_formats_may_be_mixed(tmp_path):
    files = {
        "a.csv": csv_of(rows_of(0, 30)),
        "b.jsonl": json_of(rows_of(30, 10)),
        "c.parquet": parquet_of(rows_of(40, 9)),
    }
    found = examined(tmp_path, files)
    assert found.description["format"] == "delimited text, JSON Lines, parquet"
    assert dataset_id(found.table) == dataset_id(whole(rows_of(0, 49)).table)


def test_columns_may_stand_in_another_order(tmp_path):
    turned = csv_of([",".join(reversed(row.split(","))) for row in rows_of(30, 30)], "label,city,n")
    found = examined(tmp_path, {"a": csv_of(rows_of(0, 30)), "b": turned})
    assert dataset_id(found.table) == dataset_id(whole(rows_of(0, 60)).table)


def test_files_without_rows_count_for_nothing(tmp_path):
    files = {"a": csv_of([]), "b": b"", "c": csv_of(rows_of(0, 40)), "d": parquet_of([]), "e": csv_of([])}
    found = examined(tmp_path, files)
    assert found.accepted
    assert len(found.table) == 40


def test_a_folder_of_empty_files_is_told(tmp_path):
    assert examined(tmp_path, {"a": csv_of([]), "b": b""}).reasons == [
        "every file of the folder is empty: upload files with a header and rows"
    ]


def test_other_columns_are_told_with_the_file(tmp_path):
    found = examined(tmp_path, {"a.csv": csv_of(rows_of(0, 30)), "b.csv": csv_of(rows_of(0, 30), "n,town,label")})
    (reason,) = found.reasons
    assert "compared with 'a.csv', 'b.csv' also has 'town'; 'b.csv' lacks 'city'; write every file" in reason


def test_json_lines_may_lack_a_key_in_a_whole_file(tmp_path):
    lacking = "".join(json.dumps({"n": n, "label": n % 2}) + "\n" for n in range(30, 60)).encode()
    found = examined(tmp_path, {"a.jsonl": json_of(rows_of(0, 30)), "b.jsonl": lacking})
    assert found.accepted
    assert found.schema.column("city").nullable


def test_a_damaged_file_is_named(tmp_path):
    found = examined(tmp_path, {"a.csv": csv_of(rows_of(0, 30)), "b.csv": b"%PDF-1.7"})
    assert found.reasons == ["b.csv: the file is a PDF document, not a table: upload CSV, JSON Lines or Parquet"]
    unclosed = csv_of([*rows_of(0, 30), '"30,Ulm,1', *rows_of(31, 30)])
    found = examined(tmp_path, {"a.csv": csv_of(rows_of(0, 30)), "b.csv": unclosed})
    assert found.reasons[0].startswith("b.csv: line 32 opens a quote that is never closed")


def test_faulty_rows_know_their_file_and_line(tmp_path):
    files = {
        "a.csv": csv_of(rows_of(0, 30)),
        "b.csv": csv_of([*rows_of(30, 10), "many,Ulm,0", *rows_of(41, 20), "1,2"]),
        "c.jsonl": json_of(rows_of(61, 10)) + b"{broken\n",
    }
    found = examined(
        tmp_path, files, checks={"expressions": [{"name": "few", "expression": "n < 65", "severity": "warning"}]}
    )
    assert [(row.file, row.line) for row in found.quarantined] == [("b.csv", 12), ("b.csv", 33), ("c.jsonl", 11)]
    assert found.quarantined[0].to_dict()["file"] == "b.csv"
    (summary,) = [finding for finding in found.findings if finding.check == "malformed_rows"]
    assert "the first is line 12 of b.csv" in summary.message
    (condition,) = [finding for finding in found.findings if finding.check == "expression"]
    assert condition.to_dict()["rows"][0] == {"line": 5, "value": "n=65.0", "file": "c.jsonl"}


def test_what_is_remarkable_about_one_file_names_it(tmp_path):
    latin = csv_of(rows_of(30, 30)).decode().encode("cp1252")
    found = examined(tmp_path, {"a.csv": csv_of(rows_of(0, 30)), "b.csv": latin})
    messages = [finding.message for finding in found.findings if finding.check == "encoding"]
    assert messages[0].startswith("b.csv: the file is not UTF-8")
    assert len(found.table) == 60


cells = st.tuples(
    st.sampled_from(["1", "2.5", "x", "", '"a\nb"', '"', "\0"]), st.sampled_from(["0", "1", "0", "1", "", "2,3"])
)
parts = st.lists(st.tuples(st.sampled_from(["csv", "jsonl"]), st.lists(cells, max_size=12)), min_size=1, max_size=4)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])  # files are overwritten
@given(parts)
def test_every_row_of_every_file_is_in_the_record_or_in_quarantine(tmp_path, drawn):
    files, places, number = {}, {}, 0
    for index, (kind, rows) in enumerate(drawn):
        name, line, lines = f"part-{index}.{kind}", 1 if kind == "jsonl" else 2, []
        for one, label in rows:
            places[name, line] = number
            if kind == "csv":
                buffer = io.StringIO()
                csv.writer(buffer, lineterminator="").writerow([number, one, *label.split(",")])
                written = buffer.getvalue()
                line += 1 + written.count("\n")
            else:
                written = json.dumps({"n": number, "one": one, "label": label}) if one != '"' else "{"
                line += 1
            lines.append(written)
            number += 1
        header = ["n,one,label"] if kind == "csv" else []
        files[name] = ("\n".join([*header, *lines]) + "\n").encode()
    found = examined(tmp_path, files, columns={"n": {"type": "integer", "role": "feature"}})
    if found.table is None:
        assert found.reasons
        return
    kept = found.table.columns["n"].astype(int).tolist()
    quarantined = [places[row.file, row.line] for row in found.quarantined]
    assert sorted(kept + quarantined) == list(range(number))
    assert len(kept) + len(quarantined) == found.rows
