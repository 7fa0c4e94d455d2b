"""`server FOLDER --address HOST:PORT [--certs-dir FOLDER]`, as MinIO has it, done by `rclone serve s3`.

MINIO_ROOT_USER and MINIO_ROOT_PASSWORD as there. --console-address is taken, since the command line has it: no console.
"""

import argparse
import os
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("command", choices=["server"])
parser.add_argument("folder")
parser.add_argument("--address", default=":9000")
parser.add_argument("--console-address")
parser.add_argument("--certs-dir", type=Path)
given = parser.parse_args()

account = f"{os.environ['MINIO_ROOT_USER']},{os.environ['MINIO_ROOT_PASSWORD']}"
command = ["/opt/rclone/bin/rclone", "serve", "s3", "--addr", given.address, "--auth-key", account]
command += ["--vfs-cache-mode", "off", "--config", "/tmp/rclone.conf"]
if given.certs_dir:
    command += ["--cert", str(given.certs_dir / "public.crt"), "--key", str(given.certs_dir / "private.key")]
os.execv(command[0], [*command, given.folder])
