"""Keys as files: private, whole, and told apart from what is none."""

import json
import stat
import sys

import pytest

from fedn.privacy import keys
from fedn.privacy.keys import create_key, read_key, write_key
from fedn.privacy.tenseal import new_context
from fedn.protocol.errors import Conflict, InvalidInput, Unavailable
from tests.support.encrypted import key_of


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "folder" / "federation.key"
    write_key(key_of(), path)
    return path


def test_a_key_comes_back_from_its_file_which_only_its_owner_may_read(file):
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert read_key(file) == key_of()
    assert key_of().context.hex() not in repr(key_of())


def test_no_key_is_ever_overwritten(file):
    before = file.read_bytes()
    with pytest.raises(Conflict, match="cannot be made again"):
        write_key(key_of("another"), file)
    assert file.read_bytes() == before


def test_a_file_that_others_may_read_is_refused(file):
    file.chmod(0o640)
    with pytest.raises(InvalidInput) as error:
        read_key(file)
    assert error.value.code == "private_file_exposed"


def rewritten(content, **changes):
    return json.dumps({**content, **changes}).encode()


def test_what_is_no_key_is_refused_with_the_reason(file):
    content = json.loads(file.read_bytes())
    faults = {
        "no JSON": b"\x80rubbish",
        "not written by": json.dumps({"key": 1}).encode(),
        "no base64": rewritten(content, context="*"),
        "its id": rewritten(content, key_id="sha256:" + "0" * 64),
        "damaged": rewritten(content, degree=1024),
        "more than": b" " * (5 << 20),
    }
    for why, data in faults.items():
        file.write_bytes(data)
        with pytest.raises(InvalidInput, match=why) as error:
            read_key(file)
        assert error.value.code == "bad_key_file"
    with pytest.raises(InvalidInput, match="cannot be read"):
        read_key(file.with_name("away"))


def test_a_damaged_context_is_refused_by_its_name(file):
    context = b"\0" + key_of().context
    damaged = keys.Key("sha256:x", 4096, context)
    with pytest.raises(InvalidInput) as error:
        damaged.open()
    assert error.value.code == "bad_key_file"


def test_degrees_without_parameters_are_refused():
    with pytest.raises(InvalidInput, match="2048, 4096, 8192"):
        create_key(16384)


def test_without_tenseal_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "tenseal", None)
    with pytest.raises(Unavailable, match=r"fedn\[secagg\]"):
        new_context(4096)
