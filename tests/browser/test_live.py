"""What happens is on the page at once, by itself, and stays so when the network does not."""

import re
import time
from urllib.parse import urlsplit

from playwright.sync_api import expect

from fedn.network.join import JoinString
from fedn.network.tls import make_csr, new_private_key
from fedn.sandbox.federation import Sandbox
from tests.browser.conftest import PATIENCE_MS, picture, train
from tests.support.proxy import BreakingProxy
from tests.support.servers import free_port

ROUNDS = 999
FUNNY = "<script>alert(1)"
WHEN_SEEN = """text => new Promise(done => {
    const look = () => document.querySelector("main").textContent.includes(text) && done(Date.now() / 1000);
    const every = { subtree: true, childList: true, characterData: true };
    new MutationObserver(look).observe(document.querySelector("main"), every);
    look();
})"""


def enrol(federation: Sandbox, name: str) -> None:
    """A client that enrols and never attaches."""
    join = federation.api.join_string(federation.url).join
    secret = JoinString.parse(join).secret
    federation.api.enrol(secret=secret, name=name, role="client", csr=make_csr(new_private_key(), name))


def test_a_change_is_on_an_open_page_within_a_second(idle: Sandbox, admin) -> None:
    admin.goto(f"{idle.url}/clients")
    expect(admin.locator(".live")).to_have_text("Live")
    delays = []
    for number in range(5):
        name = f"seen-{number}"
        admin.evaluate(f"() => {{ window.seen = ({WHEN_SEEN})('{name}') }}")  # not waited for
        enrol(idle, name)
        happened = time.time()
        delays.append(admin.evaluate("window.seen") - happened)
        idle.api.remove_client(name)
    assert min(delays) < 1.0, delays  # the other ones may have met a busy machine


def test_a_session_is_watched_stopped_and_resumed(trained: Sandbox, admin) -> None:
    admin.goto(f"{trained.url}/start")
    admin.fill("#name", "long")
    admin.fill("#rounds", str(ROUNDS))
    admin.click("main button:has-text('Start')")
    expect(admin.locator("main .pill").first).to_contain_text("running")
    expect(admin.locator("main")).to_contain_text(re.compile(rf"[1-9]\d* of {ROUNDS} rounds"), timeout=PATIENCE_MS)
    picture(admin, "session-running")
    admin.on("dialog", lambda dialog: dialog.accept())
    admin.click("main button:has-text('Stop')")
    expect(admin.locator("main .pill").first).to_contain_text("stopped")
    admin.click("main button:has-text('Resume')")
    expect(admin.locator("main .pill").first).to_contain_text("running")
    # The button came with a change of the page, and its form knows this login all the same.
    admin.click("main button:has-text('Stop')")
    expect(admin.locator("main .pill").first).to_contain_text("stopped")
    assert admin.faults == []


def test_a_page_comes_back_by_itself_and_shows_what_it_missed(trained: Sandbox, log_in) -> None:
    port = urlsplit(trained.url).port
    assert port is not None
    for path in ("/dashboard", "/events"):
        with BreakingProxy(port, 0, times=0, port=free_port()) as network:
            page = log_in(f"https://127.0.0.1:{network.port}")
            page.goto(f"https://127.0.0.1:{network.port}{path}")
            expect(page.locator(".live")).to_have_attribute("data-state", "live")
        expect(page.locator(".live")).to_have_attribute("data-state", "away")
        session = train(trained, 1)
        with BreakingProxy(port, 0, times=0, port=network.port):
            expect(page.locator(".live")).to_have_attribute("data-state", "live", timeout=PATIENCE_MS)
            expect(page.locator("main")).to_contain_text(session[-6:])
            page.goto("about:blank")


def test_the_log_follows_what_happens_through_its_filters(trained: Sandbox, admin) -> None:
    admin.goto(f"{trained.url}/events")
    admin.select_option("#kind", "session_finished")
    admin.wait_for_url("**kind=session_finished**")
    expect(admin.locator(".live")).to_have_attribute("data-state", "live")
    before = admin.locator("tbody tr").count()
    train(trained, 1)
    expect(admin.locator("tbody tr")).to_have_count(before + 1)
    assert admin.locator("tbody").inner_text().count("session finished") == before + 1
    assert "round started" not in admin.locator("tbody").inner_text()


def test_a_client_that_is_called_script_is_only_a_funny_name(trained: Sandbox, admin) -> None:
    opened = []
    admin.on("dialog", lambda dialog: (opened.append(dialog.message), dialog.dismiss()))
    admin.goto(f"{trained.url}/clients")
    expect(admin.locator(".live")).to_have_text("Live")
    enrol(trained, FUNNY)
    try:
        expect(admin.locator("main")).to_contain_text(FUNNY)
        for path in ("/network", "/", "/clients?state=out"):
            admin.goto(f"{trained.url}{path}")
            expect(admin.locator("main")).to_contain_text(FUNNY)
        admin.goto(f"{trained.url}/clients")
        admin.click(f"text={FUNNY}")
        expect(admin.locator("h1")).to_have_text(FUNNY)
        admin.goto(f"{trained.url}/events?text={FUNNY}")
        expect(admin.locator("#text")).to_have_value(FUNNY)
    finally:
        trained.api.remove_client(FUNNY)
    assert opened == [] and admin.faults == []
    assert admin.locator("main script").count() == 0


def test_packages_are_uploaded_and_chosen(trained: Sandbox, admin, tmp_path) -> None:
    admin.goto(f"{trained.url}/context")
    bad = tmp_path / "bad.tgz"
    bad.write_bytes(b"no archive")
    admin.set_input_files("#file", bad)
    admin.click("main button:has-text('Upload')")
    expect(admin.locator("#faults")).to_be_visible()
    admin.click("main button:has-text('Use none')")
    expect(admin.locator("tbody button:has-text('Activate')")).to_have_count(1)
    good = tmp_path / "good.tgz"
    good.write_bytes(trained.project.package)
    admin.set_input_files("#file", good)
    admin.click("main button:has-text('Upload')")
    expect(admin.locator("tbody .state").first).to_have_text("active")


def test_a_client_that_was_ended_is_named_with_the_reason(trained: Sandbox, admin) -> None:
    """Runs last of this file: the client does not come back."""
    admin.goto(f"{trained.url}/clients")
    expect(admin.locator(".live")).to_have_text("Live")
    program = next(program for program in trained.programs if program.name == "client-5")
    program.terminate()
    line = admin.locator("tbody tr", has=admin.locator("th", has_text="client-5")).first
    expect(line).to_contain_text("away", timeout=PATIENCE_MS)
    picture(admin, "clients-one-away")
