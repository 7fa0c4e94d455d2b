"""The frameworks live in an environment of their own (make test-frameworks); a run without them says so by its mark."""

from pathlib import Path

import pytest


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leaves these files unimported in a run with `-m "not frameworks"`, and only there."""
    return True if "not frameworks" in config.option.markexpr else None
