"""What the federation has: seed models and compute packages come in here, and are described from here.

Bytes go to the model store, named by their digest; a seed gets its trail entry, a package its record.
"""

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import BinaryIO

from fedn.aggregation.checks import FiniteCheck
from fedn.models.digest import Hasher, digest
from fedn.models.encrypted import is_encrypted, read_encrypted
from fedn.models.files import read_tensors
from fedn.models.wire import ModelSpec, encode, header_size, read_spec
from fedn.plan.package import PackageLimits, inspect_package
from fedn.protocol.errors import InvalidInput, NotFound, UpdateRefused
from fedn.protocol.rest import PackageView, as_json
from fedn.protocol.trail import TrailEntry
from fedn.reducer.events import EventLog
from fedn.reducer.trail import Trail
from fedn.reducer.uploads import pieces_of
from fedn.stores.base import ModelStore, Scalar, StateStore

PACKAGES = "packages"
_CHOICES = "choices"
_ACTIVE = "active_package"
_ZIP_MAGICS = (b"PK\x03\x04", b"PK\x05\x06")


class Catalog:
    """Thread-safe. Every call may be repeated after StoreUnavailable.

    Args:
        algorithm: of the digests that name models and packages.
        max_model_bytes: of a seed, as safetensors and unpacked.
        max_package_bytes: of a package, packed.
    """

    def __init__(
        self,
        *,
        state: StateStore,
        models: ModelStore,
        trail: Trail,
        events: EventLog,
        algorithm: str,
        max_model_bytes: int,
        max_package_bytes: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._state = state
        self._models = models
        self._trail = trail
        self._events = events
        self._algorithm = algorithm
        self._max_model_bytes = max_model_bytes
        self._package_limits = PackageLimits(max_packed_bytes=max_package_bytes)
        self._clock = clock
        self.changing = threading.Lock()
        """Held from the storing of an object until something names it, and while unnamed objects are removed."""
        self._active: PackageView | None = None
        self._active_known = False

    # Seeds

    def add_seed(self, data: bytes) -> TrailEntry:
        """Makes a model (safetensors or npz bytes) the global model; returns its trail entry.

        Raises:
            InvalidInput: `bad_model`, `bad_model_file`, `pickled_file`, `seed_not_finite`.
            LimitExceeded: (`model_too_large`).
        """
        buffer = self._converted(data) if data.startswith(_ZIP_MAGICS) else data
        spec = self._checked(lambda: read_spec(buffer), data)
        check = FiniteCheck(spec)
        check.feed(0, buffer)
        _finish(check)
        return self._store_seed(digest(buffer, self._algorithm), lambda: [memoryview(buffer)], spec)

    def add_seed_file(self, path: Path) -> TrailEntry:
        """As `add_seed`, from a file; a safetensors file is not read into memory as a whole."""
        with path.open("rb") as file:
            if file.read(4) in _ZIP_MAGICS:
                return self.add_seed(bytes(self._converted(path)))
            size = path.stat().st_size
            spec = self._checked(lambda: read_spec(_header(file, size), size), path)
            model_id = _digest_checked(file, spec, self._algorithm)

            def pieces() -> Iterable[bytes]:
                file.seek(0)
                return pieces_of(file)

            return self._store_seed(model_id, pieces, spec)

    def _converted(self, source: bytes | Path) -> bytearray:
        return encode(read_tensors(source, max_bytes=self._max_model_bytes))

    def _checked(self, read: Callable[[], ModelSpec], source: bytes | Path) -> ModelSpec:
        try:
            return read()
        except InvalidInput:
            # It is no safetensors: the reader of all formats tells pickles and others by their names.
            read_tensors(source, max_bytes=self._max_model_bytes)
            raise

    def _store_seed(
        self, model_id: str, pieces: Callable[[], Iterable[bytes | memoryview]], spec: ModelSpec
    ) -> TrailEntry:
        if is_encrypted(spec):
            read_encrypted(spec)
        if not spec.tensors:
            raise InvalidInput("bad_model_file", "the file holds no tensor", fix="Save the model's tensors in it.")
        with self.changing:
            self._models.put(model_id, pieces(), spec.size_bytes)
            entry = self._trail.append_seed(model_id)
        self._events.publish(
            "model_seeded", model_id=model_id, index=entry.index, size_bytes=spec.size_bytes, tensors=len(spec.tensors)
        )
        return entry

    def model_spec(self, model_id: str) -> ModelSpec:
        """Names, dtypes and shapes of a stored model's tensors. NotFound (`no_such_object`)."""
        size = self._models.stat(model_id).size_bytes
        head = bytearray()
        wanted: int | None = None
        for piece in self._models.read(model_id):
            head += piece
            wanted = header_size(head)
            if wanted is not None and len(head) >= wanted:
                break
        return read_spec(head, size)

    # Compute packages

    def add_package(self, data: bytes, *, activate: bool = True) -> PackageView:
        """Checks and keeps a compute package (tar.gz) and, with `activate`, makes it the active one.

        A package that is there already is not stored twice.

        Raises:
            InvalidInput, InvalidSettings: what is wrong with the archive or its manifest.
            LimitExceeded: (`package_too_large`).
        """
        manifest = inspect_package(data, self._package_limits)
        package_id = digest(data, self._algorithm)
        view = PackageView(
            package_id=package_id,
            name=manifest.name,
            size_bytes=len(data),
            uploaded_at=self._clock(),
            format=manifest.format,
            helper=manifest.helper or "",
            learner=manifest.learner or "",
            entry_points=tuple(manifest.entry_points),
        )
        with self.changing:
            self._models.put(package_id, [memoryview(data)], len(data))
            earlier = self._state.get(PACKAGES, package_id)
            if earlier is None:
                self._state.put(PACKAGES, package_id, as_json(view.model_copy(update={"active": False})))
            else:
                view = PackageView.model_validate(earlier)
        if activate:
            self.activate(package_id)
        self._events.publish("package_uploaded", package_id=package_id, name=view.name, active=activate)
        return view.model_copy(update={"active": activate})

    def packages(
        self,
        limit: int | None = None,
        offset: int = 0,
        *,
        where: Mapping[str, Scalar] | None = None,
        order_by: str = "uploaded_at",
        descending: bool = True,
    ) -> list[PackageView]:
        """Packages whose fields equal `where`; the latest first, unless asked otherwise."""
        active = self.active()
        found = self._state.find(PACKAGES, where, order_by=order_by, descending=descending, limit=limit, offset=offset)
        views = [PackageView.model_validate(document) for document in found]
        return [active if active is not None and view.package_id == active.package_id else view for view in views]

    def count_packages(self, where: Mapping[str, Scalar] | None = None) -> int:
        return self._state.count(PACKAGES, where)

    def package(self, package_id: str) -> PackageView:
        """NotFound (`no_such_package`)."""
        document = self._state.get(PACKAGES, package_id)
        if document is None:
            raise NotFound(
                "no_such_package",
                "there is no such compute package",
                fix="List them with: fedn package list.",
                where={"package": package_id},
            )
        active = self.active()
        if active is not None and active.package_id == package_id:
            return active
        return PackageView.model_validate(document)

    def activate(self, package_id: str | None) -> None:
        """Makes a package the one that new sessions use; None: none. NotFound (`no_such_package`)."""
        chosen = None if package_id is None else self.package(package_id)
        self._state.put(_CHOICES, _ACTIVE, {"package_id": package_id})
        self._active = None if chosen is None else chosen.model_copy(update={"active": True})
        self._active_known = True
        self._events.publish("package_activated", package_id=package_id or "", name=chosen.name if chosen else "")

    def active(self) -> PackageView | None:
        """The package that new sessions use."""
        if not self._active_known:
            choice = self._state.get(_CHOICES, _ACTIVE) or {"package_id": None}
            document = choice["package_id"] and self._state.get(PACKAGES, choice["package_id"])
            self._active = PackageView.model_validate({**document, "active": True}) if document else None
            self._active_known = True
        return self._active


def _header(file: BinaryIO, size_bytes: int) -> bytes:
    """The beginning of a file that should be safetensors, up to the end of its header."""
    file.seek(0)
    prefix = file.read(8)
    wanted = header_size(prefix)
    return prefix if wanted is None else prefix + file.read(min(wanted, size_bytes) - len(prefix))


def _digest_checked(file: BinaryIO, spec: ModelSpec, algorithm: str) -> str:
    """Digest of a file whose values are all finite; the file is read once."""
    check, hasher = FiniteCheck(spec), Hasher(algorithm)
    file.seek(0)
    offset = 0
    for piece in pieces_of(file):
        hasher.update(piece)
        check.feed(offset, piece)
        offset += len(piece)
    _finish(check)
    return hasher.digest()


def _finish(check: FiniteCheck) -> None:
    try:
        check.finish()
    except UpdateRefused as error:
        raise InvalidInput(
            error.code.replace("update", "seed"),
            error.message.replace("the update", "the model"),
            fix="Save the model again, before its training diverged.",
            where=error.where,
        ) from error
