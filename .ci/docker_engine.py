#!/usr/bin/env python3
"""Makes Docker usable on a plain Debian or Ubuntu machine: as root, without systemd and without an image registry.

    python3 .ci/docker_engine.py start            # installs what is missing, starts dockerd, makes the base image
    python3 .ci/docker_engine.py stop             # stops the dockerd that `start` started, no other
    python3 .ci/docker_engine.py run COMMAND…     # start, COMMAND, and stop if this very run started it

Where an engine answers already, it is used as it is and never stopped. The base image `fedn-base:local` is a minimal
Debian with Python. It takes the package mirror, the trusted certificates and pip's settings from this machine, so it is
for tests here and not for publishing. With FEDN_BASE_IMAGE set, that image is pulled (unless it is there) and tagged
instead. With FEDN_SKIP_DOCKER set, `run` runs COMMAND and nothing else.

Standard library only: it runs before anything is installed. Not for running containers: Compose and the tests do that.
"""

import contextlib
import fcntl
import os
import platform
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

BASE_IMAGE = "fedn-base:local"
STATE = Path("/run/fedn-docker")
LOG = STATE / "dockerd.log"
PID = STATE / "dockerd.pid"
START_S = 120
STOP_S = 60
PROGRAMS = {"dockerd": "docker.io", "docker": "docker.io", "docker-compose": "docker-compose", "iptables": "iptables"}
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
# What pip needs to find packages from within an image. Paths of this machine mean nothing there.
PIP_KEYS = ("index-url", "extra-index-url", "trusted-host", "timeout", "retries", "proxy")


class CannotStart(Exception):
    """No engine can be had here; the message says why and what to do."""


def say(text: str) -> None:
    print(f"docker: {text}", file=sys.stderr, flush=True)


def call(*command: str, **options: object) -> str:
    """Runs a command; its standard output.

    Raises:
        CannotStart: it failed; with the last lines of what it said.
    """
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]
    if done.returncode != 0:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-15:])
        raise CannotStart(f"{' '.join(command[:4])} … ended with {done.returncode}:\n{tail}")
    return str(done.stdout)


def succeeds(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def answers() -> bool:
    """Whether an engine answers at the standard address (or where DOCKER_HOST points)."""
    return shutil.which("docker") is not None and succeeds("docker", "version", "--format", "{{.Server.Version}}")


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """One preparation at a time on this machine: others wait."""
    STATE.mkdir(parents=True, exist_ok=True)
    with (STATE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def install(packages: Sequence[str]) -> None:
    """Installs Debian packages.

    Raises:
        CannotStart: there is no apt, no root, or apt fails.
    """
    if not packages:
        return
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        raise CannotStart(
            f"{', '.join(packages)}: not installed; only root can do so here, with apt. Install them yourself"
        )
    say(f"installing {', '.join(packages)}")
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install_them = ("apt-get", "install", "-y", "-q", "--no-install-recommends", *packages)
    if subprocess.run(install_them, env=quiet, capture_output=True, check=False).returncode != 0:
        call("apt-get", "update", "-q", env=quiet)  # the lists may be missing or too old to be of use
        call(*install_them, env=quiet)


def start_engine() -> bool:
    """Whether an engine was started: False where one answered already.

    Raises:
        CannotStart: there is none, and none can be started.
    """
    missing = {package for program, package in PROGRAMS.items() if shutil.which(program, path=search_path()) is None}
    if answers():
        # A running engine is somebody's own: only what drives it is added.
        install(sorted(missing & {"docker-compose"}))
        return False
    if os.geteuid() != 0:
        raise CannotStart("no engine answers, and only root may start one: start Docker, or run this as root")
    install(sorted(missing))
    if answers():  # the package's own script started it
        return False
    say("starting dockerd")
    ready = STATE / "ready.sock"
    ready.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices, LOG.open("wb") as log:
        notices.bind(str(ready))
        environment = {**os.environ, "NOTIFY_SOCKET": str(ready), "PATH": search_path()}
        engine = subprocess.Popen(
            ["dockerd"], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True
        )
        PID.write_text(str(engine.pid))
        if not told_ready(notices, engine):
            stop_engine()
            tail = "\n".join(LOG.read_text(errors="replace").splitlines()[-15:])
            raise CannotStart(f"dockerd did not come up within {START_S} s; its last words:\n{tail}")
    ready.unlink(missing_ok=True)
    return True


def search_path() -> str:
    """The programs' folders with those of root, which are not on everybody's path."""
    return os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])


def told_ready(notices: socket.socket, engine: subprocess.Popen[bytes]) -> bool:
    """Waits until dockerd says READY (as it would to systemd), or ends, or the time is over."""
    end = os.pidfd_open(engine.pid)
    try:
        waiting = select.poll()
        waiting.register(notices, select.POLLIN)
        waiting.register(end, select.POLLIN)
        while events := waiting.poll(START_S * 1000):
            if any(descriptor == end for descriptor, _ in events):
                return False
            if b"READY=1" in notices.recv(4096):
                return True
        return False
    finally:
        os.close(end)


def stop_engine() -> None:
    """Stops the dockerd that this script started, if it still runs; waits for its end."""
    try:
        pid = int(PID.read_text())
        name = Path(f"/proc/{pid}/comm").read_text().strip()
        descriptor = os.pidfd_open(pid)
    except (OSError, ValueError):
        PID.unlink(missing_ok=True)
        return
    try:
        if name != "dockerd":  # the number is another program's by now
            return
        say("stopping dockerd")
        waiting = select.poll()
        waiting.register(descriptor, select.POLLIN)
        for number in (signal.SIGTERM, signal.SIGKILL):
            signal.pidfd_send_signal(descriptor, number)
            if waiting.poll(STOP_S * 1000):
                return
    finally:
        os.close(descriptor)
        PID.unlink(missing_ok=True)


def make_base_image() -> None:
    """Makes `fedn-base:local` unless it is there.

    Raises:
        CannotStart: no mirror is known, or a step failed.
    """
    if wanted := os.environ.get("FEDN_BASE_IMAGE"):
        if not succeeds("docker", "image", "inspect", wanted):
            call("docker", "pull", wanted)
        call("docker", "tag", wanted, BASE_IMAGE)
        return
    if succeeds("docker", "image", "inspect", BASE_IMAGE):
        return
    if os.geteuid() != 0:
        raise CannotStart("only root can make a base image; or name one in FEDN_BASE_IMAGE (python:3.11-slim-bookworm)")
    install([name for name in ("debootstrap",) if shutil.which(name, path=search_path()) is None])
    release = platform.freedesktop_os_release()["VERSION_CODENAME"]
    say(f"making {BASE_IMAGE} of {release} (about a minute, once)")
    with tempfile.TemporaryDirectory(prefix="fedn-base-") as folder:
        root = Path(folder)
        packages = "--include=python3,python3-venv,ca-certificates"
        path = {**os.environ, "PATH": search_path()}
        call("debootstrap", "--variant=minbase", packages, release, folder, mirror(release), env=path)
        shutil.rmtree(root / "var/cache/apt", ignore_errors=True)
        shutil.rmtree(root / "var/lib/apt/lists", ignore_errors=True)
        if CERTIFICATES.is_file():
            shutil.copyfile(CERTIFICATES, root / CERTIFICATES.relative_to("/"))
        (root / "etc/pip.conf").write_text(pip_settings())
        archive = subprocess.Popen(["tar", "-C", folder, "--numeric-owner", "-c", "."], stdout=subprocess.PIPE)
        with archive:
            call("docker", "import", "-", BASE_IMAGE, stdin=archive.stdout)
        if archive.returncode != 0:
            raise CannotStart(f"tar of the base image ended with {archive.returncode}")


def mirror(release: str) -> str:
    """Where this machine gets Debian's (or Ubuntu's) packages from.

    Raises:
        CannotStart: its apt sources name none for `release`.
    """
    listed = call("apt-get", "indextargets", "--format", "$(RELEASE) $(COMPONENT) $(REPO_URI)", "Created-By: Packages")
    for line in listed.splitlines():
        name, component, address = line.split(maxsplit=2)
        if (name, component) == (release, "main"):
            return address
    raise CannotStart(f"no source of {release} main in /etc/apt; name a base image in FEDN_BASE_IMAGE")


def pip_settings() -> str:
    """This machine's settings of pip (configuration and environment) as a configuration file for the base image."""
    found = {"cert": str(CERTIFICATES)} if CERTIFICATES.is_file() else {}
    ask = [sys.executable, "-m", "pip", "config", "list"]
    listing = subprocess.run(ask, capture_output=True, text=True, check=False)
    for line in listing.stdout.splitlines():
        name, _, value = line.partition("=")
        key = name.rpartition(".")[2]
        words = [word for word in value.strip("'\"").split() if not word.startswith(("file:", "/"))]
        if key in PIP_KEYS and words:
            found[key] = " ".join(words)
    return "[global]\n" + "".join(f"{key} = {value}\n" for key, value in found.items())


def main(arguments: Sequence[str]) -> int:
    match arguments:
        case ["start"]:
            with alone():
                start_engine()
                make_base_image()
        case ["stop"]:
            with alone():
                stop_engine()
        case ["run", program, *rest] if os.environ.get("FEDN_SKIP_DOCKER"):
            say("FEDN_SKIP_DOCKER is set: no engine is looked for")
            return subprocess.run([program, *rest], check=False).returncode
        case ["run", program, *rest]:
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
            started = False
            try:
                with alone():
                    started = start_engine()
                    make_base_image()
                return subprocess.run([program, *rest], check=False).returncode
            finally:
                if started:
                    stop_engine()
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except CannotStart as error:
        say(str(error))
        sys.exit(1)
