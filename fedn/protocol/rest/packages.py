"""Compute packages, and the removal of what the model store keeps in vain."""

from pydantic import Field

from fedn.protocol.rest.base import Page
from fedn.protocol.tasks import Frozen


class PackageView(Frozen):
    package_id: str
    name: str
    size_bytes: int
    uploaded_at: float
    active: bool = False
    """Whether new sessions use it where their plan names none."""
    format: str = "safetensors"
    helper: str = ""
    learner: str = ""
    entry_points: tuple[str, ...] = ()


class PackageActivation(Frozen):
    """PUT packages/active."""

    package_id: str | None
    """None: no package; clients bring their own Learner."""


class GcRequest(Frozen):
    """POST store/gc: removes objects of the model store that nothing names."""

    older_than_s: float = Field(default=86400.0, ge=0)
    dry_run: bool = False


class GcReply(Frozen):
    removed: tuple[str, ...]
    """Digests; of what would be removed, for a dry run. The first 10,000."""
    num_removed: int
    removed_bytes: int
    kept: int
    retained: int = 0
    """Unreferenced, but under the store's retention."""
    dry_run: bool


PackagePage = Page[PackageView]
