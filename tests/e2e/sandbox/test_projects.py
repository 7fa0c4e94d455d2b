"""Projects that need no framework of their own train over the real tiers. (The default sandbox trains digits.)"""

from pathlib import Path

import pytest

from tests.support.projects import train_project


@pytest.mark.timeout(300)
def test_data_centers_learn_what_power_they_take(tmp_path: Path) -> None:
    validation = train_project("data-center", tmp_path, rounds=3, seed_from_client=True)
    assert set(validation) == {"loss", "error_watts", "relative_error"}
    # The seed is wrong by more than a fifth, and so is who always says the mean.
    assert validation["relative_error"] < 0.08


@pytest.mark.timeout(300)
def test_a_forest_of_two_sites_reads_digits(tmp_path: Path) -> None:
    validation = train_project("digits-forest", tmp_path, rounds=3)
    assert validation["trees"] == 30
    assert validation["accuracy"] >= 0.9
