"""From an empty federation to a downloaded model, as an operator does it: by hand, in a browser."""

import io
import pickle
from pathlib import Path

import numpy as np
from playwright.sync_api import Page, expect

from fedn.models.digest import digest
from fedn.sandbox.federation import Sandbox
from tests.browser.conftest import PATIENCE_MS, picture


def test_seed_start_watch_and_download(federation: Sandbox, admin: Page, seed_file: Path, tmp_path: Path) -> None:
    if not federation.api.status().trail_length:
        expect(admin.locator("main")).to_contain_text("No seed model yet: upload one")
        picture(admin, "overview-empty")
        admin.click("main >> text=Seed a model")
    else:
        admin.goto(f"{federation.url}/seed")

    bad = tmp_path / "model.pkl"
    bad.write_bytes(pickle.dumps({"w": 1}))
    admin.set_input_files("#seed", bad)
    admin.click("main button:has-text('Upload')")
    expect(admin.get_by_role("alert").filter(has_text="pickle")).to_be_visible()
    admin.set_input_files("#seed", seed_file)
    admin.click("main button:has-text('Upload')")
    expect(admin.locator("h1")).to_contain_text(digest(seed_file.read_bytes())[7:19])

    admin.goto(f"{federation.url}/start")
    admin.fill("#rounds", "0")
    admin.fill("#name", "by hand")
    admin.fill("#parameters", "{epochs: 1}")
    admin.click("main button:has-text('Start')")
    expect(admin.locator("#parameters-fault")).to_contain_text("no JSON object")
    expect(admin.locator("#parameters")).to_have_attribute("aria-invalid", "true")
    admin.fill("#parameters", '{"epochs": 1}')
    admin.click("main button:has-text('Start')")
    expect(admin.locator("#rounds-fault")).to_contain_text("greater than or equal to 1")
    expect(admin.locator("#name")).to_have_value("by hand")
    picture(admin, "start-faults")
    admin.fill("#rounds", "4")
    admin.fill("#clients_required", "5")
    admin.click("main button:has-text('Start')")

    expect(admin.locator("h1")).to_have_text("by hand")
    admin.evaluate("window.sameDocument = true")
    expect(admin.locator("main .pill").first).to_contain_text("finished", timeout=PATIENCE_MS)
    expect(admin.locator("main")).to_contain_text("4 of 4 rounds")
    expect(admin.locator("tr#r3 td[data-label=Updates]")).to_have_text("5 of 5")
    assert admin.evaluate("window.sameDocument"), "the page was loaded again"
    assert admin.locator(".gantt rect").count() >= 5
    picture(admin, "session-finished")

    admin.goto(f"{federation.url}/models")
    newest = admin.locator("tbody tr").first
    expect(newest).to_contain_text("head")
    with admin.expect_download() as loading:
        newest.locator("a:has-text('safetensors')").click()
    head = federation.api.status().model_id
    assert digest(Path(loading.value.path()).read_bytes()) == head
    with admin.expect_download() as loading:
        newest.locator("a:has-text('npz')").click()
    arrays = np.load(io.BytesIO(Path(loading.value.path()).read_bytes()))
    assert len(arrays.files) == len(federation.api.model(head).tensors)

    admin.click("text=Verify the trail")
    expect(admin.locator("main")).to_contain_text("The trail is whole.")
    assert admin.faults == []
