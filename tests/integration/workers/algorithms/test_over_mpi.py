"""Every algorithm in the ranks of a real MPI job, against the same references as over the other back ends.

One job runs them all: each rank runs the tests that are marked `mpi`, and is one worker in each of their runs.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

# The first of them waits for the whole job: nine processes, on a machine that may be slow and shared.
pytestmark = pytest.mark.timeout(700)
RANKS = 9
"""As many as the largest of these tests has workers."""
ROOT = Path(__file__).resolve().parents[4]
TESTS = {
    "base framework": ["test_the_base_framework_adds_up_numbers_in_each_round[mpi]"],
    "FedAvg": ["test_fedavg_equals_its_definition_and_learns_digits[mpi]"],
    "DSGD": [
        f"test_dsgd_is_the_product_with_the_matrix_less_the_gradients[mpi-{topology}]"
        for topology in ("ring", "torus", "time-varying")
    ],
    "push-sum": ["test_push_sum_is_the_product_of_numerators_and_weights[mpi]"],
    "hierarchical": ["test_groups_train_by_themselves_and_are_averaged_by_their_examples[mpi]"],
    "SplitNN": [
        f"test_split_learning_equals_training_the_whole_network_in_one_place[mpi-{case}]" for case in ("3-10", "1-2")
    ],
    "vertical": ["test_vertical_learning_equals_regression_on_all_features[mpi]"],
    "FedGKT": ["test_rounds_are_those_of_the_algorithm[mpi]"],
}


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What each rank's pytest says, when the job has ended."""
    logs = tmp_path_factory.mktemp("mpi")
    job = [sys.executable, "-m", "fedn.cli.main", "worker", "run", "tests/support/spmd.py"]
    job += ["-n", str(RANKS), "--backend", "mpi", "--logs", str(logs), "--"]
    # -x: a rank whose test fails ends the job, as the others would wait for it.
    tests = [
        str(Path(__file__).parent.relative_to(ROOT)),
        "-m",
        "mpi",
        "-vv",
        "-x",
        "-p",
        "pytest_timeout",
        "-p",
        "no:cacheprovider",
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run([*job, *tests], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    found = [log.read_text() for log in sorted(logs.glob("worker-*.log"))]
    assert len(found) == RANKS, done.stdout + done.stderr
    return found


@pytest.mark.parametrize("algorithm", TESTS)
def test_an_algorithm_equals_its_reference_in_the_ranks_of_a_job(algorithm: str, reports: list[str]) -> None:
    for report in reports:
        for test in TESTS[algorithm]:
            assert f"::{test} PASSED" in report, report
