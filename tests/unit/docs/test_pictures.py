"""The pictures of topologies are those that their script draws."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import fedn

DOCS = Path(fedn.__file__).resolve().parent.parent / "docs"


def test_the_script_draws_each_picture_that_the_tutorial_shows(tmp_path: Path) -> None:
    spec = spec_from_file_location("draw_topologies", DOCS / "draw_topologies.py")
    assert spec is not None and spec.loader is not None
    script = module_from_spec(spec)
    spec.loader.exec_module(script)
    script.draw(tmp_path)
    drawn = sorted(path.name for path in tmp_path.iterdir())
    assert drawn == sorted(path.name for path in (DOCS / "images" / "topologies").iterdir())
    page = (DOCS / "tutorials" / "workers.md").read_text()
    assert all(f"images/topologies/{name}" in page for name in drawn)
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in tmp_path.iterdir())
