"""Results files and tables."""

from pathlib import Path

import pytest

from benchmarks.results import append, markdown, read
from benchmarks.tables import put_into, tables


def test_rows_are_added_and_read_back_with_their_time(tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    append(file, {"bench": "floor", "value": 1.5})
    append(file, {"bench": "floor", "value": 2.5})
    rows = read(file)
    assert [row["value"] for row in rows] == [1.5, 2.5]
    assert all(row["when"] for row in rows)


def test_nothing_is_written_without_a_file() -> None:
    append(None, {"bench": "floor"})


@pytest.mark.parametrize("line", ["{", "[]", "3"])
def test_a_damaged_line_is_named(tmp_path: Path, line: str) -> None:
    file = tmp_path / "results.jsonl"
    file.write_text('{"bench": "floor"}\n\n' + line + "\n")
    with pytest.raises(ValueError, match="line 3"):
        read(file)


def test_a_table_is_markdown_with_aligned_columns() -> None:
    assert markdown(("a", "value"), [("x", 1.23456), ("long name", None)]) == (
        "| a         | value |\n| --------- | ----- |\n| x         | 1.23  |\n| long name | –     |"
    )


def test_each_benchmark_has_a_heading_of_its_own_and_peers_come_first() -> None:
    row = {"bench": "rounds", "params": 100_000, "clients": 2, "tls": False, "round_s": 0.5}
    rows = [
        {**row, "system": "flower-1.8.0"},
        {**row, "system": "fedn", "combiners": 1, "failed": "over 600 s"},
        {"bench": "floor", "test": "memory", "what": "copy", "value": 40.0, "unit": "GB/s"},
    ]
    headings = [line for line in tables(rows).splitlines() if line.startswith("## ")]
    assert headings == ["## peers", "## rounds", "## floor"]


def test_the_tables_of_a_page_are_renewed_and_all_else_stays() -> None:
    rows = [{"bench": "floor", "test": "memory", "what": "copy", "value": 40.0, "unit": "GB/s"}]
    page = "# Page\n<!-- table {} -->\nold\n<!-- end of table -->\nwords\n"
    renewed = put_into(page.format("floor"), rows)
    assert "old" not in renewed and "| 40.0  |" in renewed
    assert put_into(renewed, rows) == renewed
    assert renewed.startswith("# Page\n") and renewed.endswith("\nwords\n")
    assert put_into(page.format("stores"), rows) == page.format("stores")
