"""What users of FEDn type, with curl: a compute package to /context, a seed to /seed, /start, and a package of FEDn."""

import io
import json
import subprocess
import tarfile

import numpy as np

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


def curl(federation, *arguments: str) -> str:
    """What curl prints; a status of 400 or more fails the test."""
    token = federation.api.admin_token(SECRETS["admin"]).token
    ca = next((federation.folder / "reducer").rglob("ca.crt"))
    command = ["curl", "-sS", "--fail-with-body", "--max-time", "60", "--cacert", str(ca)]
    command += ["-H", f"Authorization: Bearer {token}", "-H", "Accept: application/json", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{arguments}: {done.stdout} {done.stderr}"
    return done.stdout


def test_the_routes_of_fedn_train_a_package_of_fedn(tmp_path):
    with Federation(tmp_path, combiners=2, clients=0) as federation:
        for number in range(1, 4):
            name = f"client-{number}"
            federation.add_client(name, learner=None)
        federation.wait_attached(3)
        (tmp_path / "package.tgz").write_bytes(fedn_package())
        np.savez(tmp_path / "seed.npz", np.zeros(4, np.float32), np.zeros((2, 2)))
        url = federation.url
        curl(federation, "-F", f"file=@{tmp_path / 'package.tgz'}", f"{url}/context")
        curl(federation, "-F", f"seed=@{tmp_path / 'seed.npz'}", f"{url}/seed")
        started = json.loads(
            curl(federation, "-d", "rounds=2", "-d", "round_timeout=100", "-d", "clients_required=3", f"{url}/start")
        )
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
            assert json.loads(curl(federation, f"{url}/{path}"))
        for path in ("", "plot", "dashboard", "seed", "start", "network"):
            assert "<html" in curl(federation, "-H", "Accept: text/html", f"{url}/{path}")
        package = tmp_path / "again.tgz"
        curl(federation, "-o", str(package), f"{url}/context")
        assert package.read_bytes() == (tmp_path / "package.tgz").read_bytes()
