"""The settings that combiners and clients share."""

from collections.abc import Iterator
from pathlib import Path

from fedn.plan.settings_base import Fault, LogSettings, Secret


class SiteSettings(LogSettings):
    """What combiners and clients share: how they find the federation, and where they keep their identity."""

    join: str | None = Secret()
    """Join string (`fedn token create`); stands for the four settings below."""
    reducer_url: str | None = None
    """Address of the reducer, https://host:port."""
    ca_fingerprint: str | None = None
    """`sha256:` of the authority's certificate."""
    ca_file: Path | None = None
    """The authority's certificate (PEM), instead of its fingerprint. Waited for where its folder is there already."""
    enrolment_secret: str | None = Secret()
    """Needed at the first start only."""

    def faults(self) -> Iterator[Fault]:
        parts = [
            name
            for name in ("reducer_url", "ca_fingerprint", "ca_file", "enrolment_secret")
            if getattr(self, name) is not None
        ]
        if self.join is not None:
            # The secret may be there still, in an environment shared with the reducer; it says the same.
            yield from (
                Fault(name, "two_sources", f"both a join string and {name} are given", "Give one of them.")
                for name in parts
                if name != "enrolment_secret"
            )
        elif self.reducer_url is None:
            yield Fault(
                "join",
                "missing_setting",
                "nothing says where the reducer is",
                "Give the join string that `fedn token create` prints at the reducer, or reducer_url.",
            )
        elif self.reducer_url.startswith("https:") and self.ca_fingerprint is None and self.ca_file is None:
            yield Fault(
                "ca_fingerprint",
                "missing_setting",
                "nothing says which authority the reducer's certificate comes from",
                "Give ca_fingerprint, or ca_file (ca.crt from the reducer's data directory), or a join string.",
            )
        if self.ca_fingerprint is not None and self.ca_file is not None:
            yield Fault("ca_file", "two_sources", "both ca_fingerprint and ca_file are given", "Give one of them.")
