"""The limit on open files is raised where the system allows it, and one sentence says where it does not."""

import resource

import pytest

from fedn.network import open_files
from fedn.network.open_files import raise_open_files
from fedn.protocol.errors import LimitExceeded


class Limits:
    """The operating system's limits: a soft one, and a hard one that only some may raise."""

    def __init__(self, soft: int, hard: int, *, privileged: bool = False) -> None:
        self.soft, self.hard, self.privileged = soft, hard, privileged

    def get(self, what: int) -> tuple[int, int]:
        assert what == resource.RLIMIT_NOFILE
        return self.soft, self.hard

    def set(self, what: int, limits: tuple[int, int]) -> None:
        soft, hard = limits
        if hard > self.hard and not self.privileged:
            raise ValueError("not allowed to raise maximum limit")
        assert soft <= hard
        self.soft, self.hard = soft, hard


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> Limits:
    made = Limits(1024, 4096)
    monkeypatch.setattr(open_files.resource, "getrlimit", made.get)
    monkeypatch.setattr(open_files.resource, "setrlimit", made.set)
    return made


def test_what_is_enough_is_left(limits: Limits) -> None:
    assert raise_open_files(1000) == 1024
    assert (limits.soft, limits.hard) == (1024, 4096)


def test_the_soft_limit_rises_as_far_as_needed(limits: Limits) -> None:
    assert raise_open_files(3000) == 3000
    assert (limits.soft, limits.hard) == (3000, 4096)


def test_a_privileged_process_raises_the_hard_limit(limits: Limits) -> None:
    limits.privileged = True
    assert raise_open_files(10_000) == 10_000
    assert (limits.soft, limits.hard) == (10_000, 10_000)


def test_where_it_is_not_allowed_all_that_is_allowed_is_taken_and_it_is_said(limits: Limits) -> None:
    with pytest.raises(LimitExceeded, match=r"10000 open files are needed.*may have 4096") as caught:
        raise_open_files(10_000)
    assert caught.value.code == "too_few_open_files"
    assert limits.soft == 4096
