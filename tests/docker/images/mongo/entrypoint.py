"""As the official image: at the first start it makes the root user, then it runs mongod with logins.

MONGO_INITDB_ROOT_USERNAME and MONGO_INITDB_ROOT_PASSWORD as there; the command is `mongod` and its options.
"""

import os
import subprocess
import sys
from pathlib import Path

import pymongo

DATA = Path("/data/db")
READY = DATA / ".root-user-made"


def main() -> None:
    if not READY.exists():
        make_root_user(os.environ["MONGO_INITDB_ROOT_USERNAME"], os.environ["MONGO_INITDB_ROOT_PASSWORD"])
        READY.touch()
    os.execvp("mongod", [*sys.argv[1:], "--auth", "--dbpath", str(DATA), "--nounixsocket"])


def make_root_user(name: str, password: str) -> None:
    """On a server that only this container reaches, while it still asks for no login."""
    options = ["--dbpath", str(DATA), "--bind_ip", "127.0.0.1", "--port", "27500", "--nounixsocket"]
    server = subprocess.Popen(["mongod", *options], stdout=subprocess.DEVNULL)
    try:
        with pymongo.MongoClient("127.0.0.1", 27500, serverSelectionTimeoutMS=60_000) as client:
            client.admin.command("createUser", name, pwd=password, roles=["root"])
    finally:
        server.terminate()
        server.wait(60)


if __name__ == "__main__":
    main()
