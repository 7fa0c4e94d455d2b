import json
import subprocess
import sys
from pathlib import Path

import pytest

from fedn import __version__
from fedn.client.isolation.contents import ANSWER, Contents, question, read_answer
from fedn.client.isolation.reasons import explained
from fedn.protocol.errors import TaskFailed


def contents(**packages: str) -> Contents:
    return Contents("an/image", "3.11.2", packages, (), True)


def test_a_python_says_what_it_has(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    command = question(tmp_path, tmp_path, [tmp_path, gone])
    subprocess.run([sys.executable, *command[1:]], check=True)
    found = read_answer(tmp_path, "an/image")
    found.check_learner()
    assert found.packages["numpy"] and found.unreadable == (str(gone),) and found.work_is_writable


def test_an_answer_that_is_none_is_told(tmp_path: Path) -> None:
    for content in ("no JSON", "[]", json.dumps({"python": "3.11"})):
        (tmp_path / ANSWER).write_text(content)
        with pytest.raises(TaskFailed, match="bad_image"):
            read_answer(tmp_path, "an/image")
    (tmp_path / ANSWER).unlink()
    (tmp_path / ANSWER).symlink_to("/etc/hostname")
    with pytest.raises(TaskFailed, match="bad_image"):
        read_answer(tmp_path, "an/image")


def test_a_learner_needs_this_very_fedn() -> None:
    contents(fedn=__version__).check_learner()
    with pytest.raises(TaskFailed, match="has no fedn"):
        contents().check_learner()
    with pytest.raises(TaskFailed, match=r"fedn 0\.0\.1"):
        contents(fedn="0.0.1").check_learner()


def test_requirements_are_compared_with_what_the_image_has(tmp_path: Path) -> None:
    lines = [
        "fedn",
        "Some_Thing>=2",
        "other",
        "wrong==1.0",
        "old>=3; python_version < '3.8'",
        "at @ https://x.org/a.whl",
    ]
    (tmp_path / "env.txt").write_text("\n".join(lines))
    with pytest.raises(TaskFailed, match="environment_not_in_image") as caught:
        contents(**{"some-thing": "2.1", "wrong": "1.1", "at": "1"}).check_requirements(tmp_path / "env.txt")
    message = caught.value.message
    assert (
        "other (there is none)" in message
        and "wrong==1.0 (there is 1.1)" in message
        and "at@" in message.replace(" ", "")
    )
    assert "some" not in message.lower() and "old" not in message
    (tmp_path / "bad.txt").write_text("a ==== b")
    with pytest.raises(TaskFailed, match="bad_python_env"):
        contents(a="1").check_requirements(tmp_path / "bad.txt")


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("OSError: [Errno 101] Network is unreachable", "no network"),
        ("gaierror: [Errno -3] Temporary failure in name resolution", "no network"),
        ("OSError: [Errno 30] Read-only file system: '/x'", "may write to FEDN_WORK_DIR"),
        ("FileNotFoundError: [Errno 2] No such file or directory: '/srv/x'", "sees its package"),
        ("RuntimeError: can't start new thread", "may have 64 processes"),
    ],
)
def test_an_error_that_comes_of_the_isolation_says_so(message: str, reason: str) -> None:
    error = explained(TaskFailed("step_failed", message, fix="See the log.", where={"a": "b"}), 64)
    assert error.message.startswith(message) and reason in error.message
    assert (error.code, error.fix, error.where) == ("step_failed", "See the log.", {"a": "b"})


def test_other_errors_stay_as_they_are() -> None:
    error = TaskFailed("step_failed", "ValueError: shapes differ")
    assert explained(error, 64) is error
