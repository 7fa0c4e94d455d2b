"""Numbers as people write and read them."""

import argparse

import pytest

from benchmarks.counts import format_count, format_value, parse_count, parse_counts


@pytest.mark.parametrize(
    ("text", "count"), [("50", 50), ("100k", 100_000), ("2.5M", 2_500_000), ("10M", 10_000_000), ("1G", 1_000_000_000)]
)
def test_counts_are_read(text: str, count: int) -> None:
    assert parse_count(text) == count


@pytest.mark.parametrize("text", ["", "k", "M", "-3", "0", "1.5", "1e999", "nan", "10m", "ten", "0.0001k"])
def test_what_is_no_count_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is no count"):
        parse_count(text)


def test_lists_keep_their_order() -> None:
    assert parse_counts("10M, 100k,7") == (10_000_000, 100_000, 7)


@pytest.mark.parametrize("count", [1, 7, 50, 999, 1000, 100_000, 1_500_000, 2_000_000_000])
def test_what_is_written_reads_back(count: int) -> None:
    assert parse_count(format_count(count)) == count


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0123456, "0.0123"),
        (0.99999, "1.00"),
        (1.5, "1.50"),
        (123456.0, "123000"),
        (12.0, "12.0"),
        (0.0, "0"),
        (-2.0, "-2.00"),
        (float("inf"), "inf"),
        (7, "7"),
        (None, "–"),
        (True, "yes"),
        (False, "no"),
        ("text", "text"),
    ],
)
def test_values_have_three_significant_digits(value: object, shown: str) -> None:
    assert format_value(value) == shown
