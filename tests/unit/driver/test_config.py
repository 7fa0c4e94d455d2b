"""FEDERATION.yaml: what it may say, and what is said of its faults."""

from pathlib import Path

import pytest

from fedn.driver.config import make_federation, read_federation
from fedn.protocol.errors import InvalidInput, InvalidSettings


def test_paths_start_at_the_folder_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "federation.yaml"
    file.write_text("project: mine\nlocal: {data_dir: run1}\nstatistics: /var/out.json\nmodel: last.safetensors\n")
    found = read_federation(file)
    assert (found.project, found.model) == (tmp_path / "mine", tmp_path / "last.safetensors")
    assert found.local is not None and found.local.data_dir == tmp_path / "run1"
    assert found.statistics == Path("/var/out.json")
    file.write_text("attach: {context: admin.json}\nstatistics:\n")
    attached = read_federation(file)
    assert attached.attach is not None and attached.attach.context == tmp_path / "admin.json"
    assert attached.statistics is None


def test_every_fault_is_named_with_its_field() -> None:
    with pytest.raises(InvalidSettings) as caught:
        make_federation({"projct": "x", "local": {"clients": 0, "combinrs": 2}, "tensors": "many"}, source="test")
    faults = {str(fault.where["field"]): fault for fault in caught.value.problems}
    assert set(faults) == {"projct", "local.clients", "local.combinrs", "tensors"}
    assert {fault.code for fault in faults.values()} == {"bad_federation"}
    assert "'project'" in faults["projct"].fix and "'combiners'" in faults["local.combinrs"].fix


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"local": {}, "attach": {"context": "admin.json"}}, "either started (local) or attached to (attach)"),
        ({"attach": {}}, "either the context file or the url"),
        ({"attach": {"context": "a", "url": "https://b"}}, "either the context file or the url"),
        ({"attach": {"context": "a", "ca_file": "b"}}, "the context file names the ca_file"),
    ],
)
def test_a_federation_is_reached_in_one_way(content: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidSettings) as caught:
        make_federation(content, source="test")
    assert said in caught.value.problems[0].message


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot be read") as caught:
        read_federation(tmp_path / "none.yaml")
    assert caught.value.code == "unreadable_file"
