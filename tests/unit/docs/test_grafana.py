"""The Grafana dashboard in config/ asks for metrics that exist, by labels that they have."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

import fedn
from fedn.combiner.metrics import CombinerMetrics
from fedn.reducer.metrics import Metrics

FILE = Path(fedn.__file__).resolve().parent.parent / "config" / "grafana" / "fedn.json"
PANELS: list[dict[str, Any]] = json.loads(FILE.read_text())["panels"]
ADDED_BY_PROMETHEUS = {"instance", "job", "le"}


def known() -> dict[str, set[str]]:
    """Names of samples, and the labels of their metrics."""
    found: dict[str, set[str]] = {}
    for registry in registries():
        for collector, names in registry._collector_to_names.items():
            labels = set(getattr(collector, "_labelnames", ()))
            for name in names:
                found[name] = labels
    return found


def registries() -> list[CollectorRegistry]:
    return [Metrics().registry, CombinerMetrics().registry]


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_every_expression_names_metrics_and_labels_that_exist(panel: dict[str, Any]) -> None:
    samples = known()
    assert panel["targets"]
    for target in panel["targets"]:
        expression = target["expr"]
        asked = re.findall(r"\bfedn_\w+", expression)
        assert asked
        labels = {name.strip() for group in re.findall(r"by \(([^)]*)\)", expression) for name in group.split(",")}
        labels |= set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
        for name in asked:
            assert name in samples, f"{expression} asks for {name}"
            assert labels - ADDED_BY_PROMETHEUS <= samples[name], expression


def test_panels_do_not_overlap_and_have_names_of_their_own() -> None:
    places = [panel["gridPos"] for panel in PANELS]
    cells = [(x, y) for p in places for x in range(p["x"], p["x"] + p["w"]) for y in range(p["y"], p["y"] + p["h"])]
    assert len(cells) == len(set(cells))
    assert len({panel["id"] for panel in PANELS}) == len({panel["title"] for panel in PANELS}) == len(PANELS)
