"""The OpenAPI document against a running reducer: schemathesis sends what the document allows, and what it does not."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import pytest

from fedn.network.tls import make_csr, new_private_key
from fedn.plan.package import build_package
from tests.support.federation import SECRETS, Federation

SEED = "20260105"
MAX_EXAMPLES = "6"
"""Of each operation, besides those that cover its edges."""
EXAMPLES = {"client": "hospital-1", "combiner": "combiner-1"}
"""Names of sites in the document."""
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "ignored_auth",
)


def fuzz(document: dict[str, Any], federation: Federation, token: str, *flags: str) -> subprocess.CompletedProcess[str]:
    file = federation.folder / "openapi.json"
    ca_file = next((federation.folder / "reducer").rglob("ca.crt"))
    file.write_text(json.dumps(document))
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", str(file), "--url", federation.url),
        *(
            "--header",
            f"Authorization: Bearer {token}",
            "--tls-verify",
            str(ca_file),
        ),
        *("--checks", ",".join(CHECKS), "--phases", "examples,coverage,fuzzing", "--max-examples", MAX_EXAMPLES),
        *("--seed", SEED, "--generation-deterministic", "--no-color"),
        *("--request-timeout", "60", "--suppress-health-check", "all", "--continue-on-failure", *flags),
    ]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("FEDN_", "ALLIANCE_"))}
    return subprocess.run(
        command, cwd=federation.folder, env=environment, capture_output=True, text=True, timeout=500, check=False
    )


def enrolled(federation: Federation, role: Literal["client", "combiner"]) -> str:
    """The token of a site whose name the document's examples have."""
    name = EXAMPLES[role]
    csr = make_csr(new_private_key(), name)
    return federation.api.enrol(name=name, role=role, csr=csr, secret=SECRETS["enrolment"]).token


@pytest.mark.timeout(700)
def test_whatever_is_sent_the_answer_is_as_the_document_says(tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "fedn.yaml").write_text("name: fuzzed\nlearner: learner:Learner\n")
    (project / "learner.py").write_text("class Learner: ...\n")
    with Federation(tmp_path, combiners=1, clients=2) as federation:
        federation.seed()
        view = federation.run(rounds=1)
        package = federation.api.upload_package(build_package(project))
        federation.api.activate_package(None)
        known = {
            "session": view.id,
            "model_id": view.model_id,
            "package_id": package.package_id,
            "name": "client-1",
            "client": "client-1",
        }
        document = federation.api.openapi()
        for operations in document["paths"].values():
            for operation in operations.values():
                for parameter in operation["parameters"]:
                    if parameter["in"] == "path" and parameter["name"] in known:
                        parameter["example"] = known[parameter["name"]]
        admin = federation.api.admin_token(SECRETS["admin"]).token
        runs = [
            (admin, "--exclude-method", "DELETE"),
            (enrolled(federation, "client"), "--include-path", "/api/v1/assignments"),
            (
                enrolled(federation, "combiner"),
                "--include-path-regex",
                "^/api/v1/combiners",
                "--exclude-method",
                "DELETE",
            ),
            # Last: what is gone cannot be asked for.
            (admin, "--include-method", "DELETE"),
        ]
        for token, *flags in runs:
            done = fuzz(document, federation, token, *flags)
            print(done.stdout[:20_000], done.stdout[-2_000:], done.stderr[-2_000:])
            assert done.returncode == 0
            assert " passed" in done.stdout
        assert federation.api.status().trail_length >= 2
