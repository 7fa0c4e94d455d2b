"""A site's identity on disk: its private key, its certificate, and whom it trusts. One process a folder.

Not here: how it enrols (that is the tiers' talk with the reducer), and what it may do (`access`).
"""

import fcntl
import json
import os
from pathlib import Path
from types import TracebackType

from fedn.network.private_files import PUBLIC, create_or_load, make_private_folder, write_file
from fedn.network.tls import certificate_ends_at, make_csr, new_private_key, public_key_id
from fedn.network.tokens import Role
from fedn.protocol.errors import Conflict, IntegrityError, InvalidInput
from fedn.protocol.names import check_name


class FolderLock:
    """The right to use a data directory: held by one process at a time, and let go when that process ends."""

    def __init__(self, folder: Path) -> None:
        """Conflict (`data_dir_in_use`) where another process holds it."""
        make_private_folder(folder)
        self._file = (folder / "lock").open("a+")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._file.seek(0)
            holder = self._file.read(32).strip()
            self._file.close()
            raise Conflict(
                "data_dir_in_use",
                f"another process{f' (pid {holder})' if holder else ''} uses this data directory",
                fix="Stop it, or give this one a data directory of its own with --data-dir.",
                where={"folder": folder},
            ) from error
        self._file.truncate(0)
        self._file.write(f"{os.getpid()}\n")
        self._file.flush()

    def release(self) -> None:
        """Lets it go; may be called twice."""
        self._file.close()


class Identity:
    """Name and key of a combiner or client, kept in a folder that this process alone uses while it is open.

    The key is made at the first start and never leaves the folder. The name is fixed by the first enrolment.

    Args:
        folder: data directory; made where it is missing.
        name: name of the site.
        role: combiner or client.

    Raises:
        Conflict: `data_dir_in_use`; `name_fixed` (enrolled under another name or in another role).
        IntegrityError: (`identity_damaged`) the files do not belong together.
        InvalidInput: `bad_name`; `private_file_exposed`.
    """

    def __init__(self, folder: Path, name: str, role: Role) -> None:
        self.folder = folder
        self.name = check_name(name, what=role.value)
        self.role = role
        self._lock = FolderLock(folder)
        try:
            self.key_pem = create_or_load(self.key_path, new_private_key)
            self._enrolment = self._load()
        except BaseException:
            self._lock.release()
            raise

    def __enter__(self) -> "Identity":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Lets another process have the folder; may be called twice."""
        self._lock.release()

    @property
    def key_path(self) -> Path:
        return self.folder / "site.key"

    @property
    def certificate_path(self) -> Path:
        """There once enrolled."""
        return self.folder / "site.crt"

    @property
    def ca_path(self) -> Path:
        """Certificate of the federation's authority; there once enrolled, unless the reducer has no TLS."""
        return self.folder / "ca.crt"

    @property
    def key_id(self) -> str:
        """`sha256:` of the public key, to which the name is bound."""
        return public_key_id(self.key_pem)

    @property
    def enrolled(self) -> bool:
        return self._enrolment is not None

    @property
    def federation(self) -> str:
        """Conflict (`not_enrolled`) before enrolment; so below."""
        return self._enrolled()["federation"]

    @property
    def token_key_pem(self) -> bytes:
        """The public key with which the reducer's tokens are verified."""
        return self._enrolled()["token_key"].encode()

    @property
    def certificate_pem(self) -> bytes:
        return self._enrolled()["certificate"].encode()

    @property
    def ca_pem(self) -> bytes:
        return self._enrolled()["ca"].encode()

    @property
    def certificate_ends_at(self) -> float:
        """Unix time in seconds."""
        return certificate_ends_at(self.certificate_pem)

    def csr(self) -> bytes:
        """A signing request (PEM) for this site's key."""
        return make_csr(self.key_pem, self.name)

    def save_enrolment(self, *, federation: str, certificate: bytes, ca: bytes, token_key: bytes) -> None:
        """Keeps what the reducer answered to an enrolment or a renewal, durably.

        Raises:
            Conflict: (`other_federation`) enrolled in another federation before.
            IntegrityError: (`identity_damaged`) the certificate is not for this site's key.
        """
        if self._enrolment is not None and self._enrolment["federation"] != federation:
            raise Conflict(
                "other_federation",
                f"this data directory is enrolled in the federation {self._enrolment['federation']!r}, "
                f"not in {federation!r}",
                fix="Use another data directory for another federation.",
                where={"folder": self.folder},
            )
        enrolment = {
            "name": self.name,
            "role": self.role.value,
            "federation": federation,
            "token_key": token_key.decode("ascii"),
            "certificate": certificate.decode("ascii"),
            "ca": ca.decode("ascii"),
        }
        self._check(enrolment)
        # The JSON file alone decides; the two certificates are copies of what is in it, for libraries that want files.
        write_file(self._record_path, json.dumps(enrolment, indent=1).encode())
        self._write_copies(enrolment)
        self._enrolment = enrolment

    @property
    def _record_path(self) -> Path:
        return self.folder / "identity.json"

    def _enrolled(self) -> dict[str, str]:
        if self._enrolment is None:
            raise Conflict("not_enrolled", "this site has not enrolled yet", fix="Start it with a join string.")
        return self._enrolment

    def _load(self) -> dict[str, str] | None:
        try:
            text = self._record_path.read_bytes()
        except FileNotFoundError:
            return None
        try:
            enrolment = json.loads(text)
        except ValueError as error:
            raise self._damaged("identity.json cannot be read") from error
        fields = {"name", "role", "federation", "token_key", "certificate", "ca"}
        if (
            not isinstance(enrolment, dict)
            or set(enrolment) != fields
            or not all(isinstance(value, str) for value in enrolment.values())
        ):
            raise self._damaged("identity.json lacks fields or has others")
        if (enrolment["name"], enrolment["role"]) != (self.name, self.role.value):
            raise Conflict(
                "name_fixed",
                f"this data directory belongs to the {enrolment['role']} {enrolment['name']!r}, "
                f"not to the {self.role.value} {self.name!r}",
                fix=f"Start with --name {enrolment['name']}, or give the new name a data directory of its own.",
                where={"folder": self.folder},
            )
        self._check(enrolment)
        self._write_copies(enrolment)
        return enrolment

    def _check(self, enrolment: dict[str, str]) -> None:
        try:
            fits = public_key_id(enrolment["certificate"].encode()) == self.key_id
        except InvalidInput as error:
            raise self._damaged("its certificate cannot be read") from error
        if not fits:
            raise self._damaged("its certificate is not for its key")

    def _write_copies(self, enrolment: dict[str, str]) -> None:
        for path, text in ((self.certificate_path, enrolment["certificate"]), (self.ca_path, enrolment["ca"])):
            if not path.exists() or path.read_text() != text:
                write_file(path, text.encode(), mode=PUBLIC)

    def _damaged(self, what: str) -> IntegrityError:
        return IntegrityError(
            "identity_damaged",
            f"the identity of this site is damaged: {what}",
            fix="Restore the data directory from a backup, or start with an empty one under a new name.",
            where={"folder": self.folder},
        )
