"""Every page in a real browser: it looks as it should, everybody can use it, and nothing in it is refused."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from fedn.sandbox.federation import Sandbox
from tests.browser.conftest import picture

PAGES = {
    "overview": "/",
    "session": "/dashboard",
    "clients": "/clients",
    "client": "/clients/client-1",
    "accounting": "/accounting",
    "times": "/times",
    "network": "/network",
    "workers": "/workers",
    "worker-group": "/workers/ring",
    "models": "/models",
    "metrics": "/plot",
    "metrics-training": "/plot?source=training",
    "events": "/events",
    "start": "/start",
    "seed": "/seed",
    "packages": "/context",
    "verify": "/trail/verify",
    "error": "/dashboard?session=nowhere",
    "api": "/api",
    "error-codes": "/errors",
    "error-code": "/errors/no_such_session",
}
PHONE = {"width": 390, "height": 844}


def settled(page, path: str) -> None:
    """Waits until what scripts draw is there."""
    if path.startswith("/plot"):
        expect(page.locator(".plot .main-svg").first).to_be_visible()
        page.wait_for_function("[...document.querySelectorAll('[data-figure]')].every(box => box.drawn)")
    if page.locator("body[data-live]").count():
        expect(page.locator(".live")).to_have_attribute("data-state", "live")


@pytest.mark.usefixtures("worker_group")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_has_a_serious_fault_of_accessibility(trained: Sandbox, log_in, scheme: str) -> None:
    page, axe, found = log_in(color_scheme=scheme), Axe(), {}
    model = f"/models/{trained.api.status().model_id}"
    for name, path in {**PAGES, "model": model}.items():
        page.goto(f"{trained.url}{path}")
        settled(page, path)
        picture(page, f"{name}-{scheme}")
        violations = axe.run(page).response["violations"]
        serious = [one for one in violations if one["impact"] in {"serious", "critical"}]
        if serious:
            found[name] = [(one["id"], [node["html"][:160] for node in one["nodes"]][:4]) for one in serious]
    assert found == {}
    assert page.faults == []


def test_the_login_page_has_no_serious_fault_either(federation: Sandbox, contexts) -> None:
    page = contexts().new_page()
    page.goto(f"{federation.url}/login")
    page.fill("#secret", "wrong")
    page.click("text=Log in >> nth=-1")
    expect(page.get_by_role("alert")).to_contain_text("not the admin secret")
    picture(page, "login")
    violations = Axe().run(page).response["violations"]
    assert [one["id"] for one in violations if one["impact"] in {"serious", "critical"}] == []


@pytest.mark.usefixtures("worker_group")
def test_no_page_is_wider_than_a_phone(trained: Sandbox, log_in) -> None:
    page, wide = log_in(viewport=PHONE), {}
    for name, path in PAGES.items():
        page.goto(f"{trained.url}{path}")
        settled(page, path)
        picture(page, f"{name}-phone")
        width = page.evaluate("document.documentElement.scrollWidth")
        if width > PHONE["width"]:
            wide[name] = width
    assert wide == {}


def test_pages_read_well_without_scripts(trained: Sandbox, log_in) -> None:
    page = log_in(java_script_enabled=False)
    for path, text in {
        "/": "Who takes part",
        "/dashboard": "Where the time went",
        "/clients": "clients took part in round",
        "/accounting": "most traffic first",
        "/times": "the busiest first",
        "/network": "combiner-1",
        "/models": "safetensors",
        "/plot": "accuracy",
        "/events": "session finished",
    }.items():
        page.goto(f"{trained.url}{path}")
        expect(page.locator("main")).to_contain_text(text)


def test_the_keyboard_reaches_the_content_first(trained: Sandbox, admin) -> None:
    admin.goto(f"{trained.url}/clients")
    admin.keyboard.press("Tab")
    expect(admin.locator(".skip")).to_be_focused()
    admin.keyboard.press("Enter")
    assert admin.evaluate("document.activeElement.id") == "main"


def test_nothing_moves_when_a_page_comes_to_life(trained: Sandbox, admin) -> None:
    for path in ("/", "/dashboard", "/clients", "/plot"):
        admin.goto(f"{trained.url}{path}")
        settled(admin, path)
        shift = admin.evaluate(
            """() => new Promise(done => {
                let sum = 0;
                new PerformanceObserver(list => { for (const e of list.getEntries()) sum += e.value; })
                    .observe({ type: "layout-shift", buffered: true });
                requestAnimationFrame(() => setTimeout(() => done(sum)));
            })"""
        )
        assert shift < 0.1, path


def test_a_viewer_sees_everything_and_is_offered_nothing_to_change(trained: Sandbox, log_in) -> None:
    page = log_in(role="viewer")
    for path in ("/", "/dashboard", "/start", "/seed", "/context", "/clients/client-1"):
        page.goto(f"{trained.url}{path}")
        expect(page.locator("main")).to_be_visible()
        assert page.locator("main form[method=post]").count() == 0, path


def test_a_worker_group_is_shown_rank_by_rank(federation: Sandbox, admin, worker_group: str) -> None:
    admin.goto(f"{federation.url}/workers")
    admin.get_by_role("link", name=worker_group, exact=True).click()
    rows = admin.locator("tbody tr")
    expect(rows).to_have_count(3)
    for rank in range(3):
        expect(rows.nth(rank)).to_contain_text("finished")
        expect(rows.nth(rank).locator("td[data-label=Sent]")).to_contain_text("1")


def test_metrics_are_chosen_and_the_choice_is_an_address(trained: Sandbox, admin) -> None:
    admin.goto(f"{trained.url}/plot")
    settled(admin, "/plot")
    admin.select_option("#metric", "loss")
    admin.wait_for_url("**metric=loss**")
    settled(admin, "/plot")
    expect(admin.locator("#mean")).to_have_text("loss: mean over clients")
    assert admin.locator("#f-box .boxes").count() == 1
    assert admin.locator("#f-clients .scatterlayer .trace").count() == 5
    admin.locator("text=The numbers").first.click()
    expect(admin.get_by_role("region", name="Spread in numbers")).to_be_visible()
