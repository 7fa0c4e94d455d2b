"""Any text may be logged: a JSON line stays JSON, a human record stays one record, and a secret stays hidden."""

import io
import json
import logging
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedn.plan.logs import Hider, HumanFormatter, JsonFormatter

TEXTS = st.text(max_size=200) | st.lists(
    st.sampled_from(["Bearer ", "eyJ", "fedn1.", '"', "\\", "\n", "://u:", "@", "own-secret", ".", "a", " "]),
    max_size=12,
).map("".join)
FIELDS = st.dictionaries(
    st.sampled_from(["session", "round", "loss"]), TEXTS | st.floats() | st.lists(TEXTS, max_size=3) | st.none()
)


def record(message: str, fields: dict[str, object]) -> logging.LogRecord:
    made = logging.LogRecord("fedn.x", logging.INFO, "", 0, message, (), None)
    made.fields = fields
    return made


@given(message=TEXTS, fields=FIELDS)
def test_json_line_is_one_line_of_json(message: str, fields: dict[str, object]) -> None:
    line = JsonFormatter(Hider(["own-secret"])).format(record(message, fields))
    assert "\n" not in line and "own-secret" not in line
    read = json.loads(line)
    assert read["level"] == "info" and set(fields) <= set(read)


@given(message=TEXTS, fields=FIELDS)
def test_only_the_first_line_of_a_human_record_starts_at_the_margin(message: str, fields: dict[str, object]) -> None:
    text = HumanFormatter(Hider(["own-secret"])).format(record(message, fields))
    assert "own-secret" not in text
    assert all(line.startswith("    ") for line in text.split("\n")[1:])
    assert len(io.StringIO(text).readlines()) == text.count("\n") + 1


@pytest.mark.parametrize("part", ["a.", "eyJaaaaaaaaa-", "-----BEGIN ", "x://", "u:p:", "Bearer "])
def test_no_text_makes_hiding_slow(part: str) -> None:
    started = time.process_time()
    Hider([])(part * (10_000_000 // len(part)))
    assert time.process_time() - started < 10
