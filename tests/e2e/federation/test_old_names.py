"""What users of FEDn send, with curl: a compute package to /context, a seed to /seed, /start, and a package of FEDn."""

import io
import json
import shutil
import subprocess
import tarfile

import numpy as np
import urllib3

from tests.support.federation import SECRETS, Federation, wait_for

MANIFEST = """
entry_points:
  train:
    command: python3 train.py
  validate:
    command: python3 validate.py
format: npz
"""
TRAIN = """
import json, sys
import numpy as np

model = np.load(sys.argv[1])
np.savez_compressed(sys.argv[2], **{name: model[name] + 2 for name in model.files})
out = sys.argv[2]
with open(out + "-metadata", "w") as file:
    json.dump({"num_examples": 30, "training_metadata": {"epochs": 1}}, file)
"""
VALIDATE = """
import json, sys
import numpy as np

model = np.load(sys.argv[1])
with open(sys.argv[2], "w") as file:
    json.dump({"mean": float(model["arr_0"].mean()), "classification_report": {"a": 1}}, file)
"""


def fedn_package() -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w:gz") as archive:
        for name, text in {"fedn.yaml": MANIFEST, "train.py": TRAIN, "validate.py": VALIDATE}.items():
            info = tarfile.TarInfo(f"client/{name}")
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text.encode()))
    return target.getvalue()


def send(federation, path: str, *, form=None, files=None, accept="application/json") -> bytes:
    """What `curl -F` or `curl -d` sends, and curl itself where the machine has it; an answer of 400 or more fails."""
    token = federation.api.admin_token(SECRETS["admin"]).token
    ca = next((federation.folder / "reducer").rglob("ca.crt"))
    headers = {"Authorization": f"Bearer {token}", "Accept": accept}
    url = f"{federation.url}/{path}"
    if shutil.which("curl"):
        command = ["curl", "-sS", "--fail-with-body", "--max-time", "60", "--cacert", str(ca), url]
        for name, value in headers.items():
            command += ["-H", f"{name}: {value}"]
        for name, value in (form or {}).items():
            command += ["-d", f"{name}={value}"]
        for name, file in (files or {}).items():
            command += ["-F", f"{name}=@{file}"]
        done = subprocess.run(command, capture_output=True, check=False)
        assert done.returncode == 0, f"{path}: {done.stdout!r} {done.stderr!r}"
        return done.stdout
    fields = {name: (file.name, file.read_bytes()) for name, file in (files or {}).items()} or form
    with urllib3.PoolManager(ca_certs=str(ca)) as pool:
        if fields:
            multipart = bool(files)
            answer = pool.request_encode_body("POST", url, fields, headers, encode_multipart=multipart)
        else:
            answer = pool.request("GET", url, headers=headers)
    assert answer.status < 400, f"{path}: {answer.data!r}"
    return answer.data


def test_the_routes_of_fedn_train_a_package_of_fedn(tmp_path):
    with Federation(tmp_path, combiners=2, clients=0) as federation:
        for number in range(1, 4):
            name = f"client-{number}"
            federation.add_client(name, learner=None)
        federation.wait_attached(3)
        (tmp_path / "package.tgz").write_bytes(fedn_package())
        np.savez(tmp_path / "seed.npz", np.zeros(4, np.float32), np.zeros((2, 2)))
        send(federation, "context", files={"file": tmp_path / "package.tgz"})
        send(federation, "seed", files={"seed": tmp_path / "seed.npz"})
        plan = {"rounds": 2, "round_timeout": 100, "clients_required": 3}
        started = json.loads(send(federation, "start", form={name: str(value) for name, value in plan.items()}))
        session = federation.wait_ended(started["id"])
        assert session.state == "finished", session.error
        tensors = federation.weights(session.model_id)
        assert sorted(tensors) == ["arr_0", "arr_1"]
        np.testing.assert_allclose(tensors["arr_0"], 4.0)
        records = wait_for(
            lambda: v if len(v := federation.api.validations(session.id)) == 9 else None, "all have validated"
        )
        assert {record.metrics["mean"] for record in records} == {0.0, 2.0, 4.0}
        for path in ("status", "models", "events"):
            assert json.loads(send(federation, path))
        for path in ("", "plot", "dashboard", "seed", "start", "network"):
            assert b"<html" in send(federation, path, accept="text/html")
        assert send(federation, "context") == (tmp_path / "package.tgz").read_bytes()
