"""The pages: what they show is escaped, their forms are protected, and browsers are led where they belong."""

import io
import re

import numpy as np
import pytest
from flask.testing import FlaskClient
from werkzeug.datastructures import FileStorage
from werkzeug.test import encode_multipart

from fedn.models.digest import digest
from fedn.models.wire import encode
from fedn.network.tokens import Role
from fedn.plan.session import SessionPlan
from fedn.protocol.rest import CombinerRegistration, RoundView
from fedn.protocol.rounds import LedgerEntry, LedgerState, RoundKind, RoundState
from fedn.protocol.trail import ValidationRecord
from tests.unit.reducer.parts import ADMIN_SECRET, Parts

HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
PAGES = [
    "/",
    "/accounting",
    "/times",
    "/clients",
    "/context",
    "/dashboard",
    "/events",
    "/models",
    "/network",
    "/plot",
    "/seed",
    "/start",
    "/trail/verify",
]
SCRIPTS = {
    '<script src="/static/theme.js"></script>',
    '<script type="module" src="/static/js/main.js"></script>',
}
SECURE = "https://localhost"
EVIL = "<script>alert(1)</script>"


@pytest.fixture
def browser(client: FlaskClient) -> FlaskClient:
    """Logged in as admin."""
    answer = client.post("/login", data={"secret": ADMIN_SECRET, "next": "/seed"}, headers=HTML, base_url=SECURE)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/seed")
    return client


def csrf_of(browser: FlaskClient, page: str) -> str:
    found = re.search(r'name="csrf_token" value="([0-9a-f]+)"', browser.get(page, headers=HTML, base_url=SECURE).text)
    assert found is not None
    return found[1]


@pytest.mark.parametrize("page", PAGES)
def test_every_page_is_served_with_a_strict_policy_and_no_inline_script(browser: FlaskClient, page: str) -> None:
    answer = browser.get(page, headers=HTML, base_url=SECURE)
    assert (answer.status_code, answer.mimetype) == (200, "text/html")
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    assert answer.headers["Cache-Control"] == "no-store"
    assert set(re.findall(r"<script.*?</script>", answer.text, re.DOTALL)) == SCRIPTS
    assert not re.search(r"\s(?:style|on\w+)=", answer.text) and "<style" not in answer.text
    assert answer.headers["X-Frame-Options"] == "DENY" and answer.headers["X-Content-Type-Options"] == "nosniff"


def test_the_login_cookie_is_for_this_host_over_tls_and_not_for_scripts(client: FlaskClient) -> None:
    answer = client.post("/login", data={"secret": ADMIN_SECRET}, base_url=SECURE)
    cookie = answer.headers["Set-Cookie"]
    assert cookie.startswith("__Host-fedn=")
    assert {"Secure", "HttpOnly", "Path=/", "SameSite=Strict"} <= set(cookie.split("; "))


def test_without_login_a_browser_is_led_to_the_login_page(client: FlaskClient) -> None:
    answer = client.get("/dashboard?session=s1", headers=HTML, base_url=SECURE)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/login?next=/dashboard%3Fsession%3Ds1")
    page = client.get(answer.headers["Location"], headers=HTML, base_url=SECURE)
    assert 'name="next" value="/dashboard?session=s1"' in page.text
    assert client.get("/dashboard").json["code"] == "token_missing"


@pytest.mark.parametrize("target", ["https://evil.example", "//evil.example", "/\\evil.example", "javascript:x"])
def test_the_login_leads_nowhere_else(client: FlaskClient, target: str) -> None:
    answer = client.post("/login", data={"secret": ADMIN_SECRET, "next": target}, base_url=SECURE)
    assert answer.headers["Location"] == "/"


def test_a_wrong_secret_is_told_on_the_page(client: FlaskClient) -> None:
    answer = client.post("/login", data={"secret": "wrong", "next": EVIL}, headers=HTML, base_url=SECURE)
    assert answer.status_code == 401
    assert "not the admin secret" in answer.text
    assert "Set-Cookie" not in answer.headers
    assert EVIL not in answer.text


def test_a_token_logs_in_as_what_it_is(parts: Parts, client: FlaskClient) -> None:
    client.post("/login", data={"secret": parts.token(Role.VIEWER)}, base_url=SECURE)
    assert "<form class" not in client.get("/start", headers=HTML, base_url=SECURE).text
    answer = client.post("/start", data={"rounds": "1"}, headers=HTML, base_url=SECURE)
    assert answer.status_code == 403


def test_logging_out_ends_it(browser: FlaskClient) -> None:
    assert browser.post("/logout", base_url=SECURE).headers["Location"] == "/login"
    assert browser.get("/", base_url=SECURE).status_code == 401


def test_a_form_starts_a_session_with_its_token_only(parts: Parts, browser: FlaskClient) -> None:
    form = {"rounds": "3", "round_timeout": "60", "clients_requested": "", "validate": "false", "task": "digits"}
    refused = browser.post("/start", data=form, headers=HTML, base_url=SECURE)
    assert refused.status_code == 403 and "csrf_token_wrong" in refused.text
    form["csrf_token"] = csrf_of(browser, "/start")
    answer = browser.post("/start", data=form, headers=HTML, base_url=SECURE)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/dashboard?session=s-0")
    plan = parts.sessions.plans[0]
    assert (plan.rounds, plan.round_timeout_s, plan.validate_models) == (3, 60.0, False)
    assert plan.clients_requested is None and plan.parameters == {"task": "digits"}
    assert "is running" in browser.get("/start", headers=HTML, base_url=SECURE).text
    again = browser.post("/start", data=form, headers=HTML, base_url=SECURE)
    assert again.status_code == 409 and "A session is running already" in again.text


def test_another_sites_form_is_refused_even_with_the_token(browser: FlaskClient) -> None:
    form = {"rounds": "3", "csrf_token": csrf_of(browser, "/start")}
    for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        answer = browser.post("/start", data=form, headers=headers, base_url=SECURE)
        assert answer.json["code"] == "cross_site"


def test_a_login_token_of_another_login_does_not_fit(parts: Parts, browser: FlaskClient) -> None:
    token = csrf_of(browser, "/start")
    browser.post("/login", data={"secret": ADMIN_SECRET}, base_url=SECURE)
    answer = browser.post("/start", data={"rounds": "3", "csrf_token": token}, base_url=SECURE)
    assert answer.json["code"] == "csrf_token_wrong"


def test_the_cookie_also_calls_the_api_with_the_token_in_a_header(browser: FlaskClient) -> None:
    assert browser.get("/api/v1/status", base_url=SECURE).status_code == 200
    assert browser.post("/api/v1/sessions", json={}, base_url=SECURE).json["code"] == "csrf_token_wrong"
    headers = {"X-CSRF-Token": csrf_of(browser, "/start")}
    assert browser.post("/api/v1/sessions", json={}, headers=headers, base_url=SECURE).status_code == 201


def test_a_form_uploads_a_seed(browser: FlaskClient) -> None:
    model = bytes(encode({"w": np.zeros(2_000_000, np.float32)}))  # more than other forms may have
    form = {"seed": FileStorage(io.BytesIO(model), "m.safetensors"), "csrf_token": csrf_of(browser, "/seed")}
    boundary, body = encode_multipart(form)  # by the client itself, it would leave a temporary file open
    content_type = f"multipart/form-data; boundary={boundary}"
    answer = browser.post("/seed", data=body, content_type=content_type, headers=HTML, base_url=SECURE)
    assert (answer.status_code, answer.headers.get("Location")) == (303, f"/models/{digest(model)}"), answer.text
    assert digest(model)[7:19] in browser.get("/seed", headers=HTML, base_url=SECURE).text


def test_curl_starts_a_session_with_form_or_json(parts: Parts, client: FlaskClient) -> None:
    admin = parts.headers(Role.ADMIN)
    answer = client.post("/start", data={"rounds": "2", "timeout": "30"}, headers=admin)
    assert answer.status_code == 201 and answer.json["id"] == "s-0"
    parts.sessions.views.clear()
    answer = client.post("/start", json={"rounds": 2, "clients_required": 2, "name": "again"}, headers=admin)
    assert answer.json["name"] == "again"
    assert [plan.round_timeout_s for plan in parts.sessions.plans] == [30.0, 180.0]
    answer = client.post("/start", json={"round": 2, "active_clients": 2}, headers=admin)
    assert {problem["where"]["field"] for problem in answer.json["problems"]} == {"round", "active_clients"}


def test_names_from_outside_are_escaped(parts: Parts, browser: FlaskClient) -> None:
    parts.services.registry.register(CombinerRegistration(name="<b>c", host="h", port=1, max_clients=1, instance="i"))
    parts.services.events.publish("tick", text=EVIL)
    parts.token(Role.CLIENT, "<img src=x>")
    for page in ("/", "/events", "/network"):
        text = browser.get(page, headers=HTML, base_url=SECURE).text
        assert EVIL not in text and "<b>c" not in text and "<img" not in text


def test_an_error_is_a_page_for_browsers_and_a_problem_for_programs(browser: FlaskClient) -> None:
    page = browser.get("/dashboard?session=none", headers=HTML, base_url=SECURE)
    assert (page.status_code, page.mimetype) == (404, "text/html") and "no_such_session" in page.text
    assert browser.get("/dashboard?session=none", base_url=SECURE).mimetype == "application/problem+json"


def test_the_login_page_says_where_the_secret_is(client: FlaskClient) -> None:
    text = client.get("/login", headers=HTML, base_url=SECURE).text
    assert "admin.json" in text and "fedn token create --role viewer" in text


def test_the_dashboard_shows_rounds_from_1_with_their_metrics_and_who_took_part(
    parts: Parts, browser: FlaskClient
) -> None:
    session = parts.sessions.start(SessionPlan(rounds=2)).id
    for index, accuracy in enumerate((0.5, 0.75)):
        model_id = f"blake3:{index:064x}"
        client = f"client-{index + 1}"
        parts.sessions.views_of_rounds.append(
            RoundView(
                session=session,
                index=index,
                attempt=0,
                epoch=1,
                kind=RoundKind.TRAIN,
                state=RoundState.COMMITTED,
                model_id=model_id,
                cohort=(client,),
                ledger=(LedgerEntry(client=client, state=LedgerState.UPDATED),),
                started_at=float(index),
            )
        )
        parts.services.trail.add_validations(
            [
                ValidationRecord(
                    federation="f",
                    entry_hash=model_id,
                    model_id=model_id,
                    session=session,
                    client=client,
                    metrics={"accuracy": accuracy},
                    num_examples=10,
                    time=1.0,
                )
            ]
        )
    text = browser.get("/dashboard", headers=HTML, base_url=SECURE).text
    assert ">0.5<" in text and ">0.75<" in text
    assert "<polyline" in text and "accuracy over rounds 1 to 2" in text
    assert "Round 2: who did what" in text and "client-2" in text and "client-1" not in text
    first = browser.get(f"/dashboard?session={session}&round=1", headers=HTML, base_url=SECURE).text
    assert "Round 1: who did what" in first and "client-1" in first


def test_health_tells_nothing_but_that_it_serves(client: FlaskClient) -> None:
    assert client.get("/health").json == {"status": "ok"}
