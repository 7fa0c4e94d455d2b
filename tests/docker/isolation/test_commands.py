import time

import numpy as np
import pytest

from fedn.client.calls import TaskOutcome
from fedn.models.wire import decode
from fedn.protocol.errors import TaskFailed
from tests.docker.isolation.conftest import Site, failure, train

pytestmark = [pytest.mark.docker, pytest.mark.timeout(1200)]

GOOD = """
import numpy as np
from fedn.models.files import read_tensors, write_tensors

tensors = read_tensors(sys.argv[1])
add = float(open(os.environ["FEDN_DATA_PATH"] + "/add.txt").read())
write_tensors(sys.argv[2], {name: value + np.float32(add) for name, value in tensors.items()})
open(os.environ["FEDN_WORK_DIR"] + "/count", "a").write("x")
rounds = os.path.getsize(os.environ["FEDN_WORK_DIR"] + "/count")
json.dump({"num_examples": 5, "rounds": rounds, "uid": os.getuid()}, open(os.environ["FEDN_RESULT_FILE"], "w"))
"""


def test_a_good_package_trains_on_the_owners_data_and_keeps_its_work_dir(site: Site) -> None:
    site.package(GOOD)
    site.data_path.mkdir()
    (site.data_path / "add.txt").write_text("2")
    outcomes = site.run(train(), train(task_id="t2"))
    assert all(isinstance(outcome, TaskOutcome) for outcome in outcomes), outcomes
    np.testing.assert_array_equal(decode(outcomes[0].tensors)["w"], [3, 3])
    assert outcomes[0].num_examples == 5
    assert [outcome.metrics["rounds"] for outcome in outcomes] == [1, 2]
    assert outcomes[0].metrics["uid"] > 0


def test_no_network(site: Site) -> None:
    site.package("socket.create_connection(('192.0.2.1', 80), timeout=20)\n")
    error = failure(site.run(train()))
    assert error.code == "step_failed"
    assert "Network is unreachable" in error.message and "Isolated code has no network" in error.message


@pytest.mark.parametrize("target", ["/etc/passwd", "fedn.yaml", "../x", "DATA/x"])
def test_no_writing_outside(site: Site, target: str) -> None:
    site.package(f"open({target!r}.replace('DATA', os.environ['FEDN_DATA_PATH']), 'a')\n")
    error = failure(site.run(train()))
    assert "may write to FEDN_WORK_DIR" in error.message
    assert (site.folder / "package" / "fedn.yaml").read_text().startswith("entry_points")
    assert list(site.data_path.iterdir()) == []


def test_no_reading_outside(site: Site) -> None:
    secret = site.folder / "secret.txt"
    secret.write_text("the site's own")
    site.data_dir.mkdir()
    (site.data_dir / "site.key").write_text("the client's key")
    for path in (secret, site.data_dir / "site.key"):
        site.package(f"print(open({str(path)!r}).read())\n")
        error = failure(site.run(train()))
        assert "No such file" in error.message and "sees its package, data_path and data_folders" in error.message
        assert "the site's own" not in error.message and "client's key" not in error.message


def test_folders_that_the_owner_lists_can_be_read(site: Site) -> None:
    extra = site.folder / "extra"
    extra.mkdir()
    (extra / "more.txt").write_text("7")
    site.changes["data_folders"] = [extra]
    site.package(f"sys.exit('it says ' + open({str(extra / 'more.txt')!r}).read())\n")
    assert "it says 7" in failure(site.run(train())).message


def test_a_link_as_a_result_does_not_take_the_sites_files_out(site: Site) -> None:
    secret = site.folder / "secret.npz"
    np.savez(secret, w=np.full(2, 42, np.float32))
    manifest = "format: npz\nentry_points: {train: {command: python3 -B code.py}}\n"
    done = "json.dump({'num_examples': 5}, open(os.environ['FEDN_RESULT_FILE'], 'w'))\n"
    site.package(f"os.symlink({str(secret)!r}, sys.argv[2])\n{done}", manifest)
    error = failure(site.run(train()))
    assert error.code == "bad_output"


def test_too_much_memory_is_told_and_the_client_lives(site: Site) -> None:
    site.package(
        "mode = json.load(open(os.environ['FEDN_TASK_FILE']))['parameters']\nif mode: x = b'x' * (1 << 30)\n" + GOOD
    )
    site.data_path.mkdir()
    (site.data_path / "add.txt").write_text("1")
    eaten, trained = site.run(train(parameters={"eat": True}), train(task_id="t2"))
    assert isinstance(eaten, TaskFailed) and eaten.code == "out_of_memory"
    assert "256 MiB" in eaten.message
    assert isinstance(trained, TaskOutcome)


def test_a_fork_bomb_is_bounded_and_ends_with_its_task(site: Site) -> None:
    site.package("while True: os.fork()\n")
    error = failure(site.run(train(timeout_s=20.0)))
    if error.code == "step_failed":
        assert "may have 64 processes" in error.message
    else:
        assert error.code == "task_timeout"


def test_a_step_that_hangs_is_killed_in_time_with_all_that_it_started(site: Site) -> None:
    code = "import subprocess\nsubprocess.Popen(['sleep', '600'], start_new_session=True)\ntime.sleep(600)\n"
    site.package(code)
    began = time.monotonic()
    error = failure(site.run(train(timeout_s=3.0)))
    assert error.code == "task_timeout"
    assert time.monotonic() - began < 100


def test_the_environment_has_nothing_of_the_clients(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDN_JOIN", "fedn1.secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "the owner's")
    site.package("sys.exit(' '.join(sorted(os.environ)))\n")
    message = failure(site.run(train())).message
    assert "FEDN_TASK_FILE" in message
    assert "FEDN_JOIN" not in message and "AWS" not in message


def test_output_is_bounded(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    site.changes["output_bytes"] = 10_000
    site.package("for i in range(100_000): print('x' * 99)\nsys.exit('the last word')\n")
    with caplog.at_level("INFO", "fedn.client.code"):
        error = failure(site.run(train()))
    assert "the last word" in error.message
    assert sum(len(record.getMessage()) for record in caplog.records if record.name == "fedn.client.code") < 20_000


def test_rights_are_those_of_nobody(site: Site) -> None:
    code = """
wanted = ("CapEff", "CapBnd", "NoNewPrivs", "Seccomp:")
sys.exit(" ".join(line for line in open("/proc/self/status").read().splitlines() if line.startswith(wanted)))
"""
    site.package(code)
    message = failure(site.run(train())).message.replace("\t", " ")
    assert "CapEff: 0000000000000000" in message and "CapBnd: 0000000000000000" in message
    assert "NoNewPrivs: 1" in message


def test_what_a_package_requires_must_be_in_the_image(site: Site) -> None:
    manifest = "python_env: env.yaml\nentry_points: {train: {command: python3 -B code.py}}\n"
    site.package("sys.exit('it ran')\n", manifest)
    env = site.folder / "package" / "env.yaml"
    env.write_text("dependencies: [fedn, 'numpy>=1', a-thing-that-nobody-has==1]\n")
    with pytest.raises(TaskFailed, match="environment_not_in_image") as caught:
        site.run(train())
    assert "a-thing-that-nobody-has" in caught.value.message and "numpy" not in caught.value.message
    env.write_text("dependencies: [fedn, 'numpy>=1']\n")
    assert "it ran" in failure(site.run(train())).message


def test_data_that_the_containers_user_may_not_read_is_told_at_once(site: Site) -> None:
    folder = site.folder / "closed"
    folder.mkdir(mode=0o000)
    site.changes["data_folders"] = [folder]
    site.package(GOOD)
    with pytest.raises(TaskFailed, match="data_not_readable"):
        site.run(train())
