"""What is asked of the Docker engine: an image by name, a container started, ended, swept. Each call blocks.

Not here: what runs in a container, and how its streams reach the agent (`fedn.client.isolation.containers`).
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import requests
from docker.errors import APIError, DockerException, NotFound
from docker.types import LogConfig, Mount, Ulimit

from fedn.protocol.errors import TaskFailed

LABEL = "org.fedn.data-dir"
"""On every container: the data directory of the client that made it."""
_TIMEOUT_S = 120
_TMP_BYTES = 1 << 30
"""Of /tmp and of /dev/shm; both count as the container's memory."""
_LIMITS = {"MemoryLimit": "memory", "CpuCfsQuota": "processors", "PidsLimit": "processes"}


@dataclass(frozen=True, kw_only=True)
class Bind:
    """A folder or file of this machine in a container."""

    source: Path
    target: str
    writable: bool = False


@dataclass(frozen=True, kw_only=True)
class Start:
    """A container to start."""

    image_id: str
    words: Sequence[str]
    """Of the command; the image's own entry point does not count."""
    folder: str
    """Its working directory."""
    environment: Mapping[str, str]
    binds: Sequence[Bind]
    user: str
    """`uid:gid`."""
    groups: Sequence[int]
    memory_bytes: int
    pids: int
    cpus: float | None
    data_dir: Path


class Engine:
    """The engine that DOCKER_HOST names, or this machine's.

    Raises:
        TaskFailed: (`engine_unreachable`) it does not answer; so does each method.
    """

    def __init__(self) -> None:
        with _answers():
            self._client = docker.from_env(timeout=_TIMEOUT_S)

    def check(self) -> str:
        """The engine's version. TaskFailed (`engine_without_limits`) where it cannot hold containers to limits."""
        with _answers():
            info = self._client.info()
        if missing := [what for name, what in _LIMITS.items() if not info.get(name, False)]:
            raise TaskFailed(
                "engine_without_limits",
                f"the Docker engine cannot limit {', '.join(missing)} on this machine",
                fix="Turn on the kernel's control groups for them (rootless engines: delegate them to the user).",
            )
        return str(info["ServerVersion"])

    def image_id(self, name: str) -> str:
        """What an image's name stands for now. TaskFailed (`image_missing`); nothing is pulled."""
        with _answers():
            try:
                return str(self._client.images.get(name).id)
            except NotFound as error:
                raise TaskFailed(
                    "image_missing",
                    f"the image {name} is not on this machine",
                    fix=f"Build it, or get it: docker pull {name}. A client pulls nothing by itself.",
                ) from error

    def start(self, start: Start) -> str:
        """Starts a container and returns its id. TaskFailed (`container_not_started`)."""
        with _answers():
            try:
                return str(self._client.containers.run(**_options(start)).id)
            except APIError as error:
                raise TaskFailed(
                    "container_not_started",
                    f"the container cannot be started: {error.explanation}",
                    fix="The image must have python3; `fedn client preflight` looks at it.",
                ) from error

    def wait(self, container_id: str) -> int | None:
        """Waits until a container has ended, and returns its status; None where it has gone already."""
        with _answers():
            try:
                return int(self._client.api.wait(container_id, timeout=None)["StatusCode"])
            except NotFound:
                return None

    def remove(self, container_id: str) -> None:
        """Kills a container and waits until it has gone."""
        with _answers(), contextlib.suppress(NotFound):
            try:
                self._client.api.remove_container(container_id, force=True, v=True)
            except APIError as error:
                if error.status_code != 409:  # it is being removed
                    raise
                self._client.api.wait(container_id, timeout=_TIMEOUT_S, condition="removed")

    def sweep(self, data_dir: Path) -> int:
        """Removes what containers an earlier client with this data directory left; their number."""
        with _answers():
            found = self._client.api.containers(all=True, filters={"label": f"{LABEL}={data_dir}"})
        for container in found:
            self.remove(container["Id"])
        return len(found)

    def close(self) -> None:
        self._client.close()


def _options(start: Start) -> dict[str, Any]:
    return {
        "image": start.image_id,
        "entrypoint": list(start.words[:1]),
        "command": list(start.words[1:]),
        "working_dir": start.folder,
        "environment": dict(start.environment),
        "mounts": [_mount(bind) for bind in start.binds],
        "user": start.user,
        "group_add": list(start.groups),
        "labels": {LABEL: str(start.data_dir)},
        "detach": True,
        "auto_remove": True,
        "log_config": LogConfig(type=LogConfig.types.NONE),
        # No way out, nothing to write to but what is bound, no right to become more than the user above.
        "network_mode": "none",
        "read_only": True,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "ipc_mode": "private",
        "tmpfs": {"/tmp": f"rw,nosuid,nodev,mode=1777,size={_TMP_BYTES}"},  # noqa: S108 (the container's own)
        "shm_size": _TMP_BYTES,
        "mem_limit": start.memory_bytes,
        "memswap_limit": start.memory_bytes,  # memory and swap together
        "pids_limit": start.pids,
        "nano_cpus": None if start.cpus is None else int(start.cpus * 1e9),
        "ulimits": [Ulimit(name="core", soft=0, hard=0)],
    }


def _mount(bind: Bind) -> Mount:
    mount = Mount(target=bind.target, source=str(bind.source), type="bind", read_only=not bind.writable)
    # What is mounted below the folder would stay writable: only this file system is shown.
    mount["BindOptions"] = {"Propagation": "rprivate", "NonRecursive": True}
    return mount


@contextlib.contextmanager
def _answers() -> Iterator[None]:
    """What the engine does not answer, or answers with an error that nobody expected, is TaskFailed."""
    try:
        yield
    except APIError as error:
        raise TaskFailed(
            "engine_refused",
            f"the Docker engine refuses: {' '.join(str(error.explanation or error).split())[:300]}",
            fix="See the engine's own log.",
        ) from error
    except (DockerException, requests.exceptions.RequestException, OSError) as error:
        raise TaskFailed(
            "engine_unreachable",
            f"the Docker engine does not answer: {' '.join(str(error).split())[:300]}",
            fix="Start it, and let this user use it (group docker, or DOCKER_HOST for a rootless engine).",
        ) from error
