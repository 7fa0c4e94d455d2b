"""The isolation that a client's settings ask for."""

from pathlib import Path

from fedn.client.isolation.places import Isolation
from fedn.client.isolation.processes import ProcessIsolation
from fedn.plan.settings import ClientSettings
from fedn.protocol.errors import TaskFailed


def isolation_of(settings: ClientSettings, folder: Path) -> Isolation:
    """How the packages of a client are kept apart.

    Args:
        settings: of the client, with absolute paths.
        folder: the client's own.

    Raises:
        TaskFailed: (`docker_missing`) containers are asked for, and the Docker SDK is not installed.
    """
    if settings.isolation == "process":
        return ProcessIsolation(folder / "environments", settings.memory_bytes)
    try:
        from fedn.client.isolation.containers import ContainerIsolation  # an extra, and slow to import
    except ModuleNotFoundError as error:
        raise TaskFailed(
            "docker_missing",
            f"isolation docker needs the Python package {error.name}, which is not installed",
            fix="Install the extra: pip install 'fedn[docker]'.",
        ) from error
    return ContainerIsolation(settings, folder)
