"""Error answers become the errors that the reducer raised."""

import json

import pytest

from fedn.api.problems import error_from_answer
from fedn.protocol.errors import (
    Conflict,
    FednError,
    Forbidden,
    IntegrityError,
    InvalidInput,
    InvalidSettings,
    LimitExceeded,
    NotFound,
    Unauthenticated,
    Unavailable,
)

URL = "https://reducer:8090/api/v1/status"
KINDS = [Conflict, Forbidden, InvalidInput, LimitExceeded, NotFound, Unauthenticated, Unavailable]


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_survives_the_way_over_the_wire(kind: type[FednError]) -> None:
    raised = kind("some_code", "it went wrong", fix="Do this.", where={"field": "rounds"})
    got = error_from_answer(kind.http_status, json.dumps(raised.as_problem()).encode(), url=URL)
    assert type(got) is kind
    assert (got.code, got.message, got.fix, got.where) == (
        "some_code",
        "it went wrong",
        "Do this.",
        {"field": "rounds"},
    )
    assert got.retryable == kind.retryable


def test_all_faults_of_settings_arrive() -> None:
    raised = InvalidSettings([InvalidInput("a", "first"), InvalidInput("b", "second", fix="Fix.")], what="The plan")
    got = error_from_answer(422, json.dumps(raised.as_problem()).encode(), url=URL)
    assert isinstance(got, InvalidSettings)
    assert [problem.code for problem in got.problems] == ["a", "b"]


def test_a_broken_trail_is_an_integrity_error() -> None:
    problem = IntegrityError("trail_broken", "entry 3 was changed").as_problem()
    assert isinstance(error_from_answer(500, json.dumps(problem).encode(), url=URL), IntegrityError)


def test_a_gateways_page_may_be_tried_again() -> None:
    got = error_from_answer(502, b"<html>Bad gateway</html>", url=URL)
    assert got.code == "reducer_unreachable"
    assert got.retryable


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"detail": "no"}', b'{"code": 7}', b"\xff"])
def test_an_answer_of_something_else_says_so(body: bytes) -> None:
    got = error_from_answer(404, body, url=URL)
    assert got.code == "not_a_reducer"
    assert got.where["url"] == URL
