"""The files between the agent and a container. What the code there writes is not trusted: it may be a link to anything.

So the agent writes where the code can only read, or opens what it writes anew; and reads a result by a descriptor that
it opened before the code ran.
"""

import contextlib
import errno
import os
import secrets
import shutil
import socket
from pathlib import Path

from fedn.client.isolation import guard
from fedn.client.objects import disk_error
from fedn.client.slots import FOOTER_BYTES, HeldFile, Slot
from fedn.protocol.errors import TaskFailed

RUN = "/run/fedn"
"""Where a container finds what the agent gives it: it may only read there."""
RESULTS = "/run/fedn-results"
FEEDBACK = "/run/fedn-feedback"
SOCKET = f"{RUN}/agent.sock"
GUARD = f"{RUN}/guard.py"
MODEL_NAME = "model"
_RESULT = "result"
_OUTCOME = "outcome.json"
_PREFIX = "container-"
_COPY_BYTES = 1 << 30


class Exchange:
    """The folders of one container: `run`, and, for a worker, `results`.

    Args:
        folder: for those of all the client's containers; exists.
        user: that the container runs as: uid and gid.
    """

    def __init__(self, folder: Path, user: tuple[int, int]) -> None:
        self._folder = folder / f"{_PREFIX}{secrets.token_hex(8)}"
        self.run = self._folder / "run"
        self.results = self._folder / "results"
        self._result = -1
        self.run.mkdir(parents=True)
        self.results.mkdir()
        try:
            shutil.copyfile(guard.__file__, self.run / "guard.py")
            for path in (self._folder, self.run):
                path.chmod(0o711)
            (self.run / "guard.py").chmod(0o644)
            result = self.results / _RESULT
            self._result = os.open(result, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            hand_over(self.results, user)
            hand_over(result, user)
        except OSError:
            self.close()
            raise

    def listen(self) -> socket.socket:
        """A socket that the container connects to."""
        listening = socket.socket(socket.AF_UNIX)
        descriptor = os.open(self.run, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            # The path of a socket may have 108 bytes; this one is short wherever the folder lies.
            listening.bind(f"/proc/self/fd/{descriptor}/agent.sock")
            (self.run / "agent.sock").chmod(0o666)
            listening.listen()
        except OSError:
            listening.close()
            raise
        finally:
            os.close(descriptor)
        return listening

    def lend_model(self, model: HeldFile) -> HeldFile:
        """A copy of a model that the container can read, as it sees it. LimitExceeded (`disk_full` …)."""
        try:
            with (
                open(model.path, "rb") as source,
                open(self.run / MODEL_NAME, "r+b" if self._has_model else "wb") as target,
            ):
                _copy(source.fileno(), target.fileno(), model.size_bytes)
                os.fchmod(target.fileno(), 0o644)
        except OSError as error:
            raise disk_error(error, "a copy of the model", self.run) from error
        return HeldFile(Path(RUN) / MODEL_NAME, model.size_bytes)

    def result_slot(self) -> Slot:
        """Where the container writes a large result, as it sees it."""
        return Slot(Path(RESULTS) / _RESULT)

    def take_result(self, size_bytes: int, target: Slot) -> None:
        """Copies what the container wrote. TaskFailed (`bad_result`: it is not so much), LimitExceeded."""
        if os.fstat(self._result).st_size < size_bytes:
            raise TaskFailed("bad_result", f"the result is said to have {size_bytes} bytes: they are not there")
        try:
            target.reserve(size_bytes + FOOTER_BYTES)
            view = target.view(size_bytes)
            try:
                offset = 0
                while offset < size_bytes:
                    count = os.preadv(self._result, [view[offset : offset + _COPY_BYTES]], offset)
                    if not count:
                        raise TaskFailed("bad_result", "the worker cut its result off while it was read")
                    offset += count
            finally:
                view.release()
        except OSError as error:
            raise disk_error(error, "a result", target.path.parent) from error

    def close(self) -> None:
        """Removes the folders; the container has ended."""
        if self._result >= 0:
            os.close(self._result)
            self._result = -1
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def _has_model(self) -> bool:
        return (self.run / MODEL_NAME).exists()


def sweep(folder: Path) -> None:
    """Removes the folders of containers that have gone."""
    for path in folder.glob(f"{_PREFIX}*"):
        shutil.rmtree(path, ignore_errors=True)


def hand_over(path: Path, user: tuple[int, int]) -> None:
    """Makes a file or folder of ours the container's user's. OSError."""
    if os.geteuid() == 0:
        os.chown(path, *user, follow_symlinks=False)


def copy_outcome(source: Path, target: Path) -> None:
    """Tells the container's own feedback folder what the agent noted in its own (fedn.client.feedback)."""
    try:
        content = (source / _OUTCOME).read_bytes()
    except FileNotFoundError:
        return
    folder = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        # Anew, never through what lies there: the container may have put a link.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(_OUTCOME, dir_fd=folder)
        created = os.open(_OUTCOME, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644, dir_fd=folder)
        with open(created, "wb") as file:
            file.write(content)
    finally:
        os.close(folder)


def _copy(source: int, target: int, size_bytes: int) -> None:
    offset = 0
    while offset < size_bytes:
        count = os.copy_file_range(source, target, min(size_bytes - offset, _COPY_BYTES), offset, offset)
        if not count:
            raise OSError(errno.ENODATA, f"the model has {offset} bytes instead of {size_bytes}")
        offset += count
