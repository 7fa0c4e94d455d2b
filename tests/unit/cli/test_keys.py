"""Keys and encrypted models on the command line, without a reducer."""

import json
import stat

import numpy as np
import pytest

from fedn.cli.main import run
from fedn.models.files import read_tensors, write_tensors
from fedn.privacy.keys import read_key
from fedn.protocol.errors import InvalidInput


def said(capsys, *arguments):
    assert run(list(map(str, arguments))) == 0
    return capsys.readouterr().out


def refused(capsys, *arguments):
    assert run(list(map(str, arguments))) != 0
    return capsys.readouterr().err


def test_a_key_is_made_once_privately_and_shown_without_its_secret(tmp_path, capsys):
    path = tmp_path / "federation.key"
    made = json.loads(said(capsys, "keys", "create", path, "--degree", "8192", "--json"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert made == {"file": str(path), "key_id": read_key(path).key_id, "degree": 8192}
    shown = said(capsys, "keys", "show", path)
    assert f"key_id: '{made['key_id']}', degree: 8192" in shown
    secret = json.loads(path.read_text())["context"]
    assert secret not in shown and secret[:40] not in shown
    assert "key_exists" in refused(capsys, "keys", "create", path)


def test_a_model_is_encrypted_and_decrypted_as_files(tmp_path, capsys):
    key, plain, back = tmp_path / "key", tmp_path / "plain.npz", tmp_path / "back.safetensors"
    encrypted = tmp_path / "encrypted.safetensors"
    tensors = {"w": np.linspace(-3, 3, 10, dtype=np.float32), "n": np.arange(4)}
    write_tensors(plain, tensors)
    said(capsys, "keys", "create", key)
    key_id = read_key(key).key_id
    assert json.loads(said(capsys, "model", "encrypt", plain, encrypted, "--key", key, "--json"))["key_id"] == key_id
    said(capsys, "model", "decrypt", encrypted, back, "--key", key)
    found = read_tensors(back)
    np.testing.assert_allclose(found["w"], tensors["w"], atol=1e-6)
    np.testing.assert_array_equal(found["n"], tensors["n"])
    assert "not_encrypted" in refused(capsys, "model", "decrypt", back, tmp_path / "x.npz", "--key", key)
    other = tmp_path / "other"
    said(capsys, "keys", "create", other)
    assert "key_does_not_fit" in refused(capsys, "model", "decrypt", encrypted, back, "--key", other)


def test_a_key_that_others_may_read_is_not_used(tmp_path, capsys):
    path = tmp_path / "key"
    said(capsys, "keys", "create", path)
    path.chmod(0o604)
    with pytest.raises(InvalidInput):
        read_key(path)
    assert "private_file_exposed" in refused(capsys, "keys", "show", path)
