import pytest

from fedn.protocol.errors import Unauthenticated
from fedn.reducer.guard import MAX_WRONG, WINDOW_S, SecretGuard, TooManyTries


def make_guard(now: list[float]) -> SecretGuard:
    return SecretGuard("the secret", what="secret", fix="Look it up.", clock=lambda: now[0])


def test_the_secret_opens_and_nothing_else_does() -> None:
    guard = make_guard([0.0])
    guard.check("the secret", "10.0.0.1")
    for wrong in ("", "the secre", "the secret ", "тайна"):
        with pytest.raises(Unauthenticated, match="secret_wrong"):
            guard.check(wrong, "10.0.0.1")


def test_who_guesses_is_not_listened_to_for_a_while() -> None:
    now = [0.0]
    guard = make_guard(now)
    for _ in range(MAX_WRONG):
        with pytest.raises(Unauthenticated):
            guard.check("guess", "10.0.0.1")
    with pytest.raises(TooManyTries) as refused:
        guard.check("the secret", "10.0.0.1")
    assert refused.value.http_status == 429
    guard.check("the secret", "10.0.0.2")
    now[0] = WINDOW_S + 1
    guard.check("the secret", "10.0.0.1")


def test_a_right_answer_forgets_the_wrong_ones() -> None:
    guard = make_guard([0.0])
    for _ in range(3 * MAX_WRONG):
        with pytest.raises(Unauthenticated):
            guard.check("typo", "10.0.0.1")
        guard.check("the secret", "10.0.0.1")
