"""The pages beyond their frame: clients, models, figures, packages, and what the old addresses answer."""

import gzip
import io
import re
import tarfile

import numpy as np
import pytest
from flask.testing import FlaskClient

from fedn.models.wire import encode
from fedn.network.tokens import Role
from fedn.plan.session import SessionPlan
from fedn.protocol.rest import (
    CombinerHeartbeat,
    CombinerRegistration,
    WorkerGroupReport,
    WorkerGroupRequest,
    WorkerReport,
)
from fedn.reducer.guard import MAX_WRONG
from tests.unit.reducer.parts import ADMIN_SECRET, ENROLMENT_SECRET, Parts

HTML = {"Accept": "text/html,*/*;q=0.8"}
SECURE = "https://localhost"
FUNNY = "<script>alert(1)"


@pytest.fixture
def browser(client: FlaskClient) -> FlaskClient:
    """Logged in as admin."""
    client.post("/login", data={"secret": ADMIN_SECRET}, headers=HTML, base_url=SECURE)
    return client


def page(browser: FlaskClient, path: str) -> str:
    answer = browser.get(path, headers=HTML, base_url=SECURE)
    assert answer.status_code == 200, answer.text
    return answer.text


def send(browser: FlaskClient, page_path: str, path: str, **form: str):
    token = re.search(r'name="csrf_token" value="([0-9a-f]+)"', page(browser, page_path))
    assert token is not None
    return browser.post(path, data={"csrf_token": token[1], **form}, headers=HTML, base_url=SECURE)


def test_a_client_called_script_is_only_a_funny_name_on_every_page(parts: Parts, browser: FlaskClient) -> None:
    parts.token(Role.CLIENT, FUNNY)
    parts.services.registry.register(CombinerRegistration(name=FUNNY, host="h", port=1, max_clients=1, instance="i"))
    parts.services.events.publish("client_attached", client=FUNNY, combiner=FUNNY)
    parts.sessions.start(SessionPlan(parameters={FUNNY: FUNNY}), FUNNY)
    shown = 0
    for path in ("/", "/clients", f"/clients/{FUNNY}", "/network", "/events", "/dashboard", "/plot", "/start"):
        text = page(browser, path)
        assert FUNNY not in text, path
        shown += "&lt;script&gt;alert(1)" in text
    assert shown >= 6


def test_who_was_not_let_in_is_named_with_the_reason(parts: Parts, browser: FlaskClient, client: FlaskClient) -> None:
    parts.token(Role.CLIENT, "eins")
    body = {"name": "eins", "role": "client", "csr": _csr("eins")}
    headers = {"Authorization": f"Bearer {ENROLMENT_SECRET}"}
    assert client.post("/api/v1/enrol", json=body, headers=headers).status_code == 409
    assert "Another client has enrolled under this name" in page(browser, "/clients")
    waiting = client.post("/api/v1/assignments", json={}, headers=parts.headers(Role.CLIENT, "zwei"))
    assert waiting.json["status"] == "retry"
    assert "No combiner is alive now." in page(browser, "/clients?state=out")
    assert "zwei" not in page(browser, "/clients?state=in")


def test_worker_groups_are_shown_rank_by_rank_with_what_was_relayed(parts: Parts, browser: FlaskClient) -> None:
    assert "There is no worker group" in page(browser, "/workers")
    groups = parts.services.worker_groups
    registration = CombinerRegistration(name="c1", host="h", port=1, max_clients=1, instance="i")
    parts.services.registry.register(registration)
    groups.create(WorkerGroupRequest(name="ring", size=2))
    assert "No rank is given yet" in page(browser, "/workers/ring")
    groups.join(FUNNY, "ring", 0)
    heartbeat = CombinerHeartbeat(
        instance="i",
        worker_groups=(
            WorkerGroupReport(
                group="ring",
                run="r",
                workers=(WorkerReport(rank=0, state="failed", reason="no data", sent_messages=7, sent_bytes=2048),),
            ),
        ),
    )
    said = heartbeat.model_dump(mode="json")
    answer = browser.post("/api/v1/combiners/c1/heartbeat", json=said, headers=parts.headers(Role.COMBINER, "c1"))
    assert answer.status_code == 200
    listed, shown = page(browser, "/workers"), page(browser, "/workers/ring")
    assert "0 of 2" in listed and ">7<" in listed
    assert "No data." in shown and FUNNY not in shown and "&lt;script&gt;alert(1)" in shown
    text = page(browser, "/metrics")
    assert 'fedn_worker_group_messages_total{group="ring"} 7.0' in text
    assert browser.get("/workers/none", headers=HTML, base_url=SECURE).status_code == 404


def _csr(name: str) -> str:
    from fedn.network.tls import make_csr, new_private_key

    return make_csr(new_private_key(), name).decode()


def test_a_client_is_forgotten_by_an_admin(parts: Parts, browser: FlaskClient) -> None:
    parts.token(Role.CLIENT, "eins")
    answer = send(browser, "/clients/eins", "/clients/eins/forget")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/clients")
    assert parts.sessions.detached == [("eins", "site_forgotten")]
    assert browser.get("/clients/eins", headers=HTML, base_url=SECURE).status_code == 404


def test_a_session_is_stopped_and_resumed_by_its_buttons(parts: Parts, browser: FlaskClient) -> None:
    session = parts.sessions.start(SessionPlan()).id
    assert send(browser, "/dashboard", f"/dashboard/{session}/stop").status_code == 303
    assert parts.sessions.get(session).state == "stopped"
    assert send(browser, "/dashboard", f"/dashboard/{session}/resume").status_code == 303
    assert parts.sessions.get(session).state == "running"
    bare = browser.post(f"/dashboard/{session}/stop", headers=HTML, base_url=SECURE)
    assert bare.status_code == 403 and parts.sessions.get(session).state == "running"


def test_the_overview_says_what_to_do_next(parts: Parts, browser: FlaskClient) -> None:
    assert "No combiner has joined yet" in page(browser, "/")
    parts.services.registry.register(CombinerRegistration(name="c", host="h", port=1, max_clients=1, instance="i"))
    text = page(browser, "/")
    assert "No client is attached" in text and "fedn client start --join" in text
    parts.services.catalog.add_seed(bytes(encode({"w": np.zeros(2, np.float32)})))
    parts.sessions.start(SessionPlan(rounds=3), "mine")
    assert "Session mine begins." in page(browser, "/")


def test_a_model_has_its_page_and_the_trail_its_proof(parts: Parts, browser: FlaskClient) -> None:
    entry = parts.services.catalog.add_seed(bytes(encode({"layer": np.zeros((2, 3), np.float32)})))
    text = page(browser, f"/models/{entry.model_id}")
    assert "layer" in text and "2 × 3" in text and entry.hash in text and "head: the global model now" in text
    assert "The trail is whole." in page(browser, "/trail/verify")
    assert "the entry that you named is in it" in page(browser, f"/trail/verify?head={entry.hash}")
    cut = page(browser, "/trail/verify?head=sha256:" + "1" * 64)
    assert "does not hold the entry" in cut and "The trail is whole." not in cut
    assert browser.get("/models/blake3:none", headers=HTML, base_url=SECURE).status_code == 404


def test_packages_are_chosen_by_their_buttons(parts: Parts, browser: FlaskClient) -> None:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w:gz") as archive:
        manifest = b"learner: learner:Mine\n"
        info = tarfile.TarInfo("fedn.yaml")
        info.size = len(manifest)
        archive.addfile(info, io.BytesIO(manifest))
        code = tarfile.TarInfo("learner.py")
        archive.addfile(code, io.BytesIO())
    view = parts.services.catalog.add_package(target.getvalue())
    assert "learner:Mine" in page(browser, "/context")
    assert send(browser, "/context", "/context/active", package_id="").status_code == 303
    assert parts.services.catalog.active() is None
    send(browser, "/context", "/context/active", package_id=view.package_id)
    active = parts.services.catalog.active()
    assert active is not None and active.package_id == view.package_id
    assert send(browser, "/context", "/context/active", package_id="blake3:none").status_code == 404


def test_a_bad_upload_is_told_on_its_own_page(browser: FlaskClient) -> None:
    for path, field in (("/seed", "seed"), ("/context", "file")):
        token = re.search(r'name="csrf_token" value="([0-9a-f]+)"', page(browser, path))
        assert token is not None
        body = (
            f'--x\r\nContent-Disposition: form-data; name="csrf_token"\r\n\r\n{token[1]}\r\n'
            f'--x\r\nContent-Disposition: form-data; name="{field}"; filename="f"\r\n\r\nrubbish\r\n--x--\r\n'
        )
        answer = browser.post(
            path, data=body, content_type="multipart/form-data; boundary=x", headers=HTML, base_url=SECURE
        )
        assert answer.status_code == 422 and 'id="faults"' in answer.text and f'id="{field}"' in answer.text


@pytest.mark.parametrize("selected", ["table", "timeline", "round_time", "box", "cpu", "memory", "mean", "clients"])
def test_the_old_address_of_figures_answers_plotlys_json(parts: Parts, client: FlaskClient, selected: str) -> None:
    parts.sessions.start(SessionPlan())
    for method in ("GET", "POST"):
        answer = client.open(f"/plot_type?selected={selected}", method=method, headers=parts.headers(Role.VIEWER))
        assert answer.status_code == 200 and set(answer.json) == {"data", "layout"}


def test_a_figure_that_there_is_not_is_told(parts: Parts, client: FlaskClient) -> None:
    headers = parts.headers(Role.VIEWER)
    assert client.get("/plot_type?selected=pie", headers=headers).json["where"] == {"field": "selected"}
    assert client.get("/plot?source=rumour", headers=headers).json["code"] == "bad_argument"


def test_events_are_filtered_without_a_script(parts: Parts, browser: FlaskClient) -> None:
    for number in range(3):
        parts.services.events.publish("client_attached", client=f"c{number}", combiner="here")
    parts.services.events.publish("store_back")
    body = re.compile(r"<tbody.*?</tbody>", re.DOTALL)

    def rows(query: str) -> str:
        found = body.search(page(browser, f"/events{query}"))
        assert found is not None
        return found[0]

    assert rows("").count("<tr") == 4
    assert rows("?kind=client_attached").count("<tr") == 3
    assert rows("?client=c1").count("<tr") == 1
    assert rows("?text=HERE").count("<tr") == 3
    assert "No event fits." in rows("?client=nobody")


def test_plotly_comes_packed_from_the_installed_package(client: FlaskClient) -> None:
    plain = client.get("/vendor/plotly.js")
    packed = client.get("/vendor/plotly.js", headers={"Accept-Encoding": "gzip"})
    assert packed.headers["Content-Encoding"] == "gzip" and len(packed.data) < len(plain.data) / 2
    assert gzip.decompress(packed.data) == plain.data and b"plotly.js v" in plain.data[:200]
    again = client.get("/vendor/plotly.js", headers={"If-None-Match": plain.headers["ETag"]})
    assert again.status_code == 304 and again.data == b""


def test_wrong_tokens_are_slowed_down_like_wrong_secrets(parts: Parts, client: FlaskClient) -> None:
    codes = [
        client.post("/login", data={"secret": "a.b.c"}, headers=HTML, base_url=SECURE).status_code
        for _ in range(MAX_WRONG + 2)
    ]
    assert codes == [401] * MAX_WRONG + [429] * 2
    good = client.post("/login", data={"secret": parts.token(Role.VIEWER)}, headers=HTML, base_url=SECURE)
    assert good.status_code == 429


def test_a_combiners_processor_is_shown(parts: Parts, client: FlaskClient, browser: FlaskClient) -> None:
    parts.services.registry.register(CombinerRegistration(name="eins", host="h", port=1, max_clients=1, instance="i"))
    beat = CombinerHeartbeat(instance="i", rss_bytes=3 << 20, cpu_s=1.0).model_dump()
    headers = parts.headers(Role.COMBINER, "eins")
    assert client.post("/api/v1/combiners/eins/heartbeat", json=beat, headers=headers).status_code == 200
    assert "eins" in parts.services.watching.vitals.samples()
    assert "Processor of reducer and combiners" in page(browser, "/plot")
