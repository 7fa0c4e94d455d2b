"""Makes fedn/network/generated from the .proto files; with --check, only says whether it is up to date.

The generated modules are kept in the repository, so that `pip install .` needs no protobuf compiler.
"""

import argparse
import re
import sys
import tempfile
from pathlib import Path

from grpc_tools import protoc

HERE = Path(__file__).resolve().parent
TARGET = HERE.parent / "fedn" / "network" / "generated"
INIT = '"""Made by proto/generate.py from proto/fedn/v1; edit those files, not these."""\n'


def generate() -> dict[str, str]:
    """The text of every generated file, by name."""
    sources = sorted(str(path.relative_to(HERE)) for path in HERE.glob("fedn/v1/*.proto"))
    with tempfile.TemporaryDirectory() as folder:
        arguments = ["protoc", f"-I{HERE}", f"--python_out={folder}", f"--pyi_out={folder}", *sources]
        if protoc.main(arguments) != 0:
            raise SystemExit("protoc failed: see its message above")
        files = {"__init__.py": INIT}
        for path in sorted(Path(folder).rglob("*_pb2.py*")):
            # The compiler places modules by the proto's path; ours live in one package under fedn.network.
            files[path.name] = re.sub(r"\bfrom fedn\.v1 import", "from fedn.network.generated import", path.read_text())
        return files


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    wanted = generate()
    present = {path.name: path.read_text() for path in TARGET.glob("*.py*") if path.is_file()}
    if parser.parse_args().check:
        stale = sorted(name for name in wanted.keys() | present.keys() if wanted.get(name) != present.get(name))
        if stale:
            print(f"fedn/network/generated is not up to date ({', '.join(stale)}): run python proto/generate.py")
            return 1
        return 0
    TARGET.mkdir(parents=True, exist_ok=True)
    for name in present.keys() - wanted.keys():
        (TARGET / name).unlink()
    for name, text in wanted.items():
        (TARGET / name).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
