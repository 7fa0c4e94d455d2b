"""Numbers as people write and read them: `10M` parameters, `2,10,50` clients, three significant digits."""

import argparse
import math

_FACTORS = {"k": 10**3, "M": 10**6, "G": 10**9}


def parse_count(text: str) -> int:
    """`10M` → 10_000_000.

    Raises:
        argparse.ArgumentTypeError: it is no positive whole number with an optional k, M or G.
    """
    factor = _FACTORS.get(text[-1:], 1)
    digits = text[:-1] if factor > 1 else text
    try:
        count = float(digits) * factor
    except ValueError:
        count = math.nan
    if not (math.isfinite(count) and count > 0 and count.is_integer()):
        raise argparse.ArgumentTypeError(f"{text!r} is no count such as 50, 100k or 2.5M")
    return int(count)


def parse_counts(text: str) -> tuple[int, ...]:
    """`100k,1M` → (100_000, 1_000_000), in the order given."""
    return tuple(parse_count(part.strip()) for part in text.split(","))


def format_count(count: int) -> str:
    """10_000_000 → `10M`; what is no round number stays as it is."""
    for letter, factor in reversed(_FACTORS.items()):
        if count >= factor and (count * 10) % factor == 0:
            return f"{count / factor:g}{letter}"
    return str(count)


def format_value(value: object) -> str:
    """A figure for people: three significant digits, never with an exponent; `–` for what was not measured."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, float):
        return str(value)
    if not math.isfinite(value) or value == 0:
        return f"{value:g}"
    rounded = float(f"{value:.3g}")
    return f"{rounded:.{max(0, 2 - math.floor(math.log10(abs(rounded))))}f}"
