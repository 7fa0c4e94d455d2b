"""How things are written for people."""

import pytest

from fedn.reducer.pages import formats


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, ""),
        (0.0, "0 ms"),
        (0.0123, "12 ms"),
        (0.9996, "1.0 s"),
        (3.44, "3.4 s"),
        (65, "1 min 5 s"),
        (120, "2 min"),
        (3599.7, "1 h"),
        (12_000, "3 h 20 min"),
        (90_000, "1 d 1 h"),
        (864_000, "10 d"),
    ],
)
def test_durations(seconds: float | None, text: str) -> None:
    assert formats.duration(seconds) == text


@pytest.mark.parametrize(
    ("num_bytes", "text"),
    [(None, ""), (0, "0 B"), (1023, "1023 B"), (19776, "19.3 KiB"), (5 << 20, "5.0 MiB"), (3 << 50, "3072 TiB")],
)
def test_sizes(num_bytes: int | None, text: str) -> None:
    assert formats.size(num_bytes) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.96385, "0.9638"), (-2.5, "−2.5"), (float("nan"), "NaN"), (float("-inf"), "−∞"), ("NaN", "NaN")],
)
def test_numbers(value: object, text: str) -> None:
    assert formats.number(value) == text


def test_words_and_sentences() -> None:
    assert formats.count(1, "client") == "1 client" and formats.count(12000, "client") == "12 000 clients"
    assert formats.count(2, "entry", "entries") == "2 entries"
    assert formats.sentence(" it is away ") == "It is away." and formats.sentence("") == ""
    assert formats.short("blake3:" + "a" * 64) == "a" * 12
    assert formats.moment(None) == "" and formats.moment(0.1) == "1970-01-01 00:00:00 UTC"
    assert formats.instant(1.5) == "1970-01-01T00:00:01.500+00:00"
