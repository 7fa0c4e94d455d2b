"""A real federation and a real browser: what the tests of the dashboard share. Run with `make test-browser`."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fedn.models.helpers.sklearn import SklearnHelper
from fedn.models.wire import encode
from fedn.sandbox.federation import Sandbox, SandboxOptions
from fedn.sandbox.project import DEFAULT_PROJECT, open_project
from tests.support.federation import wait_for

if TYPE_CHECKING:  # a run without these tests needs no playwright
    from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page

CLIENTS = 5
ARTEFACTS = Path(__file__).resolve().parents[2] / "artefacts" / "dashboard"
"""Screenshots; ignored by git, kept by CI."""
_FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
_FLAGS += ["--disable-sync", "--no-first-run"]
_NAMES = ("chromium", "chromium-browser", "google-chrome")
PATIENCE_MS = 120_000
RING = """
from fedn.workers import Message, WorkerManager

worker = WorkerManager()
worker.collect_by_round("value")
worker.send_message(Message("value", worker.rank, (worker.rank + 1) % worker.size, round_index=0))
worker.wait_for([(worker.rank - 1) % worker.size], 0, timeout=120)
worker.finish()
"""


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leaves these files unimported in a run that does not want them."""
    return True if "not browser" in config.option.markexpr else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.timeout(600))


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    found = os.environ.get("FEDN_TEST_CHROMIUM") or next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        pytest.fail(
            "These tests need Chromium, and there is none here: apt-get install -y chromium, "
            "or set FEDN_TEST_CHROMIUM to the path of a Chromium or Chrome.",
            pytrace=False,
        )
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=60_000)  # milliseconds; the machine may be slow and shared
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=_FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A reducer, two combiners and five clients; a compute package is there, a model is not."""
    options = SandboxOptions(clients=CLIENTS, combiners=2, data_dir=tmp_path_factory.mktemp("federation"))
    with Sandbox(open_project(None), options) as sandbox:
        sandbox.start()
        yield sandbox


@pytest.fixture(scope="session")
def secret(federation: Sandbox) -> str:
    return str(json.loads(federation.context_file.read_text())["admin_secret"])


@pytest.fixture(scope="session")
def seed_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of the digits project, as its learner makes the first one."""
    folder = str(DEFAULT_PROJECT / "client")
    sys.path.insert(0, folder)
    try:
        from learner import new_model
    finally:
        sys.path.remove(folder)
    path = tmp_path_factory.mktemp("seed") / "seed.safetensors"
    path.write_bytes(bytes(encode(SklearnHelper().get_weights(new_model(seed=1)))))
    return path


@pytest.fixture
def contexts(chromium: Browser) -> Iterator[Callable[..., BrowserContext]]:
    """Makes browser contexts, each like a fresh browser."""
    made: list[BrowserContext] = []

    def make(**options: object) -> BrowserContext:
        context = chromium.new_context(ignore_https_errors=True, **options)
        context.set_default_timeout(PATIENCE_MS)
        made.append(context)
        return context

    yield make
    for context in made:
        context.close()


@pytest.fixture
def log_in(federation: Sandbox, secret: str, contexts) -> Callable[..., Page]:
    """Logs in, in a browser of its own; the page notes every fault that the browser tells of."""

    def make(url: str = federation.url, role: str = "admin", **options: object) -> Page:
        page = contexts(**options).new_page()
        page.faults = []
        page.on("pageerror", lambda error: page.faults.append(str(error)))
        page.on("console", lambda told: page.faults.append(told.text) if _is_fault(told) else None)
        page.goto(f"{url}/login")
        page.fill("#secret", secret)
        page.select_option("#role", role)
        page.click("text=Log in >> nth=-1")
        page.wait_for_url(f"{url}/")
        return page

    return make


@pytest.fixture
def admin(log_in) -> Page:
    return log_in()


@pytest.fixture
def idle(federation: Sandbox) -> Iterator[Sandbox]:
    """The federation without a running session, before and after."""
    end_session(federation)
    yield federation
    end_session(federation)


def end_session(federation: Sandbox) -> None:
    running = federation.api.status().session
    if running:
        federation.api.stop_session(running)
        wait_for(lambda: not federation.api.status().session, "the session ends")


def train(federation: Sandbox, rounds: int) -> str:
    """Runs a session to its end; its id."""
    session = federation.api.start_session(
        federation.plan(rounds=rounds).model_copy(update={"seed_from_client": True, "clients_required": 1})
    ).id
    wait_for(lambda: federation.api.session(session).state != "running", "the session ends")
    return session


@pytest.fixture(scope="session")
def worker_group(federation: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Three workers, relayed by a combiner, that have spoken to each other and ended; their group's name."""
    folder = tmp_path_factory.mktemp("workers")
    script = folder / "ring.py"
    script.write_text(RING)
    federation.api.create_worker_group("ring", 3)
    run = [sys.executable, "-m", "fedn.cli.main", "worker", "run", str(script), "-n", "3", "--backend", "grpc"]
    run += ["--group", "ring", "--context", str(federation.context_file), "--logs", "logs"]
    subprocess.run(run, cwd=folder, check=True, timeout=180)
    wait_for(lambda: federation.api.worker_group("ring").traffic.received_messages == 3, "the home has reported")
    return "ring"


@pytest.fixture
def trained(idle: Sandbox) -> Sandbox:
    """A federation with a session of four rounds that has ended."""
    if not any(session.state == "finished" and session.rounds >= 3 for session in idle.api.sessions()):
        train(idle, 4)
    return idle


def _is_fault(told: ConsoleMessage) -> bool:
    """An error of ours. That an answer has an error's status, as a form with a fault has, the browser tells too."""
    return told.type == "error" and not re.search(r"responded with a status of (4\d\d)", told.text)


def picture(page: Page, name: str) -> None:
    ARTEFACTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=ARTEFACTS / f"{name}.png", full_page=True, animations="disabled")
