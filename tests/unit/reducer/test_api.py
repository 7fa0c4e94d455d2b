"""The REST API by itself: payloads, paging, errors as problem+json, the OpenAPI document."""

import io
from pathlib import Path

import numpy as np
import pytest
from flask.testing import FlaskClient

from fedn.models.files import read_tensors, to_npz
from fedn.models.wire import encode
from fedn.network.tls import make_csr, new_private_key
from fedn.network.tokens import Role, make_assertion
from fedn.plan.package import build_package
from fedn.protocol import rest
from fedn.protocol.trail import GENESIS, ValidationRecord
from fedn.reducer.engine.roster import AttachedClient
from tests.unit.reducer.parts import ADMIN_SECRET, ENROLMENT_SECRET, Parts, make_parts

API = "/api/v1"
MODEL = bytes(encode({"w": np.arange(6, dtype=np.float32)}))


@pytest.fixture
def admin(parts: Parts) -> dict[str, str]:
    return parts.headers(Role.ADMIN)


def seed(client: FlaskClient, admin: dict[str, str]) -> rest.ModelView:
    answer = client.post(f"{API}/models", data=MODEL, headers=admin)
    assert answer.status_code == 201, answer.text
    return rest.ModelView.model_validate(answer.json)


def make_package(folder: Path, manifest: str) -> bytes:
    folder.mkdir(exist_ok=True)
    (folder / "fedn.yaml").write_text(manifest)
    return build_package(folder)


def test_a_site_enrols_gets_tokens_and_an_assignment(parts: Parts, client: FlaskClient) -> None:
    key = new_private_key()
    answer = client.post(
        f"{API}/enrol",
        json={"name": "klinik α", "role": "client", "csr": make_csr(key, "klinik").decode()},
        headers={"Authorization": f"Bearer {ENROLMENT_SECRET}"},
    )
    enrolled = rest.EnrolReply.model_validate(answer.json)
    renewed = rest.TokenReply.model_validate(
        client.post(
            f"{API}/token",
            json={"grant": "assertion", "assertion": make_assertion(key, "klinik α", enrolled.federation)},
        ).json
    )
    headers = {"Authorization": f"Bearer {renewed.token}"}
    found = rest.Assignment.model_validate(client.post(f"{API}/assignments", json={}, headers=headers).json)
    assert (found.status, found.code, found.trail_head) == ("retry", "no_combiner", GENESIS)

    client.post(
        f"{API}/combiners",
        json={"name": "c", "host": "c.example.org", "port": 12080, "max_clients": 5, "instance": "i"},
        headers=parts.headers(Role.COMBINER, "c"),
    )
    for answer in (
        client.post(f"{API}/assignments", json={}, headers=headers),
        client.get("/assign?name=klinik α", headers=headers),
        client.post("/assign", data={"name": "klinik α", "combiner": "c"}, headers=headers),
    ):
        found = rest.Assignment.model_validate(answer.json)
        assert (found.status, found.combiner, found.host, found.port) == ("assigned", "c", "c.example.org", 12080)
        assert found.ca == parts.services.enrolment.ca_pem
        assert parts.services.enrolment.verify(found.token).subject == "klinik α"


def test_the_admin_secret_buys_admin_and_viewer_tokens(client: FlaskClient, parts: Parts) -> None:
    for role in ("admin", "viewer"):
        answer = client.post(
            f"{API}/token",
            json={"grant": "admin_secret", "role": role},
            headers={"Authorization": f"Bearer {ADMIN_SECRET}"},
        )
        assert parts.services.enrolment.verify(answer.json["token"]).role == role


def test_a_join_string_says_where_and_whom_to_trust(parts: Parts, client: FlaskClient, admin: dict[str, str]) -> None:
    answer = client.post(f"{API}/join-strings", json={}, headers=admin)
    assert answer.json["url"] == "https://reducer.example.org:8090"
    assert answer.json["ca_fingerprint"] == parts.services.enrolment.ca_fingerprint
    answer = client.post(f"{API}/join-strings", json={"url": "ftp://x"}, headers=admin)
    assert (answer.status_code, answer.json["code"]) == (422, "bad_url")


def test_combiners_and_clients_are_listed_with_their_places(
    parts: Parts, client: FlaskClient, admin: dict[str, str]
) -> None:
    own = parts.headers(Role.COMBINER, "c")
    registration = {"name": "c", "host": "h", "port": 1, "max_clients": 5, "instance": "i"}
    assert client.post("/add", json=registration, headers=own).json["status"] == "added"
    assert (
        client.post(f"{API}/combiners/c/heartbeat", json={"instance": "i", "rounds": 2}, headers=own).status_code == 200
    )
    assert client.post(f"{API}/combiners/c/heartbeat", json={"instance": "j"}, headers=own).status_code == 404
    for name in ("b", "a"):
        parts.token(Role.CLIENT, name)
    parts.sessions.roster.attach(AttachedClient("a", "c", frozenset(), {"site": "north"}, 12.0))

    combiners = rest.CombinerPage.model_validate(client.get(f"{API}/combiners", headers=admin).json)
    assert [(item.name, item.alive, item.rounds) for item in combiners.items] == [("c", True, 2)]
    clients = rest.ClientPage.model_validate(client.get(f"{API}/clients", headers=admin).json)
    assert [(item.name, item.attached, item.combiner) for item in clients.items] == [("a", True, "c"), ("b", False, "")]
    assert client.get(f"{API}/clients/a", headers=admin).json["attributes"] == {"site": "north"}

    assert client.delete(f"{API}/combiners/c", headers=admin).status_code == 204
    assert client.delete(f"{API}/combiners/c", headers=admin).json["code"] == "no_such_combiner"
    parts.token(Role.COMBINER, "never registered")
    assert client.delete(f"{API}/combiners/never registered", headers=admin).status_code == 204
    assert client.delete(f"{API}/clients/a", headers=admin).status_code == 204
    assert client.get(f"{API}/clients/a", headers=admin).json["code"] == "no_such_client"
    assert client.post("/add", json=registration, headers=own).json["code"] == "site_forgotten"


@pytest.mark.parametrize("upload", ["raw", "form"])
@pytest.mark.parametrize("path", [f"{API}/models", "/seed"])
def test_a_seed_is_uploaded_shown_and_downloaded(
    client: FlaskClient, admin: dict[str, str], tmp_path: Path, upload: str, path: str
) -> None:
    npz = bytes(to_npz({"w": np.arange(6, dtype=np.float32)}))
    data = npz if upload == "raw" else {"seed": (io.BytesIO(npz), "model.npz")}
    answer = client.post(path, data=data, headers=admin)
    assert answer.status_code == 201, answer.text
    own = answer.headers["Location"]
    shown = rest.ModelView.model_validate(client.get(own, headers=admin).json)
    assert (shown.head, shown.size_bytes, [tensor.shape for tensor in shown.tensors]) == (True, len(MODEL), [(6,)])
    download = client.get(shown.links["download"], headers=admin)
    assert (download.data, download.content_length) == (MODEL, len(MODEL))
    as_npz = client.get(shown.links["download"] + "?format=npz", headers=admin).data
    assert read_tensors(as_npz)["w"].tolist() == list(range(6))
    assert client.get(shown.links["download"] + "?format=pt", headers=admin).json["code"] == "bad_argument"


def test_only_models_of_the_trail_are_downloaded(parts: Parts, client: FlaskClient, admin: dict[str, str]) -> None:
    secret = parts.services.models
    view = seed(client, admin)
    other = "blake3:" + "0" * 64
    assert secret.stat(view.model_id)
    assert client.get(f"{API}/models/{other}/download", headers=admin).json["code"] == "no_such_model"


def test_no_seed_takes_the_place_of_a_running_sessions_model(client: FlaskClient, admin: dict[str, str]) -> None:
    seed(client, admin)
    client.post(f"{API}/sessions", json={}, headers=admin)
    answer = client.post("/seed", data=MODEL, headers=admin)
    assert (answer.status_code, answer.json["code"]) == (409, "session_running")


def test_uploads_are_bounded(tmp_path: Path) -> None:
    parts = make_parts(tmp_path / "small", max_model_bytes=100)
    try:
        client, admin = parts.app.test_client(), parts.headers(Role.ADMIN)
        for data in (b"x" * 101, {"seed": (io.BytesIO(b"x" * 101), "m")}, b""):
            answer = client.post("/seed", data=data, headers=admin)
            assert answer.json["code"] in {"upload_too_large", "no_upload"}
        assert list((tmp_path / "small" / "spool").iterdir()) == []
    finally:
        parts.close()


def test_models_and_trail_are_listed_in_parts(parts: Parts, client: FlaskClient, admin: dict[str, str]) -> None:
    ids = [f"blake3:{index:064x}" for index in range(5)]
    for model_id in ids:
        parts.services.trail.append_seed(model_id)
    page = rest.ModelPage.model_validate(client.get(f"{API}/models?limit=2&offset=1", headers=admin).json)
    assert [item.model_id for item in page.items] == [ids[3], ids[2]]
    assert (page.total, page.offset, page.limit) == (5, 1, 2)
    last = rest.ModelPage.model_validate(client.get("/models?limit=2&offset=4", headers=admin).json)
    assert [item.model_id for item in last.items] == [ids[0]]
    assert client.get(f"{API}/models?offset=99", headers=admin).json["items"] == []
    trail = rest.TrailPage.model_validate(client.get(f"{API}/trail?offset=3", headers=admin).json)
    assert [entry.index for entry in trail.items] == [3, 4]
    checked = rest.TrailVerification.model_validate(client.get(f"{API}/trail/verify", headers=admin).json)
    assert (checked.length, checked.head) == (5, trail.items[-1].hash)
    assert client.get(f"{API}/trail/verify?head={trail.items[0].hash}", headers=admin).status_code == 200
    cut = client.get(f"{API}/trail/verify?head=sha256:{'f' * 64}", headers=admin)
    assert (cut.status_code, cut.json["code"]) == (409, "trail_cut")
    key = rest.TrailKey.model_validate(client.get(f"{API}/trail/key").json)
    assert key.key_id == checked.key_id


def test_metrics_that_are_no_numbers_are_still_json(parts: Parts, client: FlaskClient, admin: dict[str, str]) -> None:
    view = seed(client, admin)
    parts.services.trail.add_validations(
        [
            ValidationRecord(
                federation="fedn-network",
                entry_hash=view.entry_hash,
                model_id=view.model_id,
                session="s",
                client="a",
                metrics={"loss": float("nan")},
                time=1.0,
            )
        ]
    )
    answer = client.get(f"{API}/validations", headers=admin)
    assert b"NaN" in answer.data and b":NaN" not in answer.data
    found = rest.ValidationPage.model_validate(answer.json).items
    assert np.isnan(found[0].metrics["loss"])
    assert client.get(view.links["self"], headers=admin).json["num_validations"] == 1


def test_a_session_starts_stops_and_resumes(parts: Parts, client: FlaskClient, admin: dict[str, str]) -> None:
    answer = client.post(f"{API}/sessions", json={"name": "first", "plan": {"rounds": 3}}, headers=admin)
    assert answer.status_code == 201
    own = answer.headers["Location"]
    again = client.post(f"{API}/sessions", json={}, headers=admin)
    assert (again.status_code, again.json["code"]) == (409, "session_running")
    assert client.get(f"{API}/status", headers=admin).json["session"] == answer.json["id"]
    assert client.post(f"{own}/stop", headers=admin).json["state"] == "stopped"
    assert client.post(f"{own}/resume", headers=admin).json["state"] == "running"
    assert client.get(f"{API}/sessions", headers=admin).json["total"] == 1
    assert client.get(f"{API}/sessions/none", headers=admin).json["code"] == "no_such_session"


def test_all_faults_of_a_plan_are_told_at_once(client: FlaskClient, admin: dict[str, str]) -> None:
    plan = {"rounds": 0, "colour": "red", "sum_dtype": "int8"}
    answer = client.post(f"{API}/sessions", json={"plan": plan}, headers=admin)
    assert (answer.status_code, answer.content_type) == (422, "application/problem+json")
    problem = rest.ProblemView.model_validate(answer.json)
    assert problem.code == "invalid_settings"
    assert {fault.where["field"] for fault in problem.problems} == {"rounds", "colour", "sum_dtype"}


def test_a_package_goes_up_and_comes_down(
    parts: Parts, client: FlaskClient, admin: dict[str, str], tmp_path: Path
) -> None:
    first = make_package(tmp_path / "a", "learner: m:L\nname: first\n")
    second = make_package(tmp_path / "b", "learner: m:L\nname: second\n")
    client.post("/context", data={"file": (io.BytesIO(first), "package.tgz")}, headers=admin)
    answer = client.post(f"{API}/packages", data=second, headers=admin)
    site = parts.headers(Role.CLIENT)
    assert client.get("/context", headers=site).data == second
    assert client.get("/context?name=first", headers=site).data == first
    assert client.get(answer.headers["Location"], headers=site).data == second
    assert client.put(f"{API}/packages/active", json={"package_id": None}, headers=admin).status_code == 204
    assert client.get("/context", headers=site).json["code"] == "no_such_package"
    listed = rest.PackagePage.model_validate(client.get(f"{API}/packages", headers=admin).json)
    assert {(item.name, item.active) for item in listed.items} == {("first", False), ("second", False)}
    assert client.post("/context", data=b"rubbish", headers=admin).status_code == 422


def test_garbage_is_collected(parts: Parts, client: FlaskClient, admin: dict[str, str]) -> None:
    seed(client, admin)
    answer = client.post(f"{API}/store/gc", json={"older_than_s": 0, "dry_run": True}, headers=admin)
    assert rest.GcReply.model_validate(answer.json).kept == 1
    answer = client.post(f"{API}/store/gc", json={"older_than_s": -1}, headers=admin)
    assert answer.json["problems"][0]["where"] == {"field": "older_than_s"}


def test_events_are_listed_from_a_number_on(parts: Parts, client: FlaskClient, admin: dict[str, str]) -> None:
    numbers = [parts.services.events.publish("tick", index=index) for index in range(4)]
    answer = client.get(f"{API}/events?after={numbers[0]}&limit=2", headers=admin)
    found = rest.EventList.model_validate(answer.json)
    assert [event.fields["index"] for event in found.events] == [1, 2]
    assert found.last == numbers[2]
    assert [event["fields"]["index"] for event in client.get("/events?limit=1", headers=admin).json["events"]] == [3]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/nowhere", None, 404, "no_such_route"),
        ("GET", f"{API}/status/", None, 404, "no_such_route"),
        ("DELETE", f"{API}/status", None, 405, "method_not_allowed"),
        ("GET", f"{API}/models?limit=0", None, 422, "bad_argument"),
        ("GET", f"{API}/models?limit=1001", None, 422, "bad_argument"),
        ("GET", f"{API}/models?limit=ten", None, 422, "bad_argument"),
        ("GET", f"{API}/models?page=2", None, 422, "unknown_argument"),
        ("GET", f"{API}/events?after=-5", None, 422, "bad_argument"),
        ("POST", f"{API}/sessions", b"{", 422, "bad_json"),
        ("GET", f"{API}/models?offset=-1", None, 422, "bad_argument"),
        ("GET", f"{API}/sessions?offset={1 << 63}", None, 422, "bad_argument"),
        ("GET", f"{API}/trail?offset={1 << 63}", None, 422, "bad_argument"),
        ("POST", f"{API}/sessions", b"[" * 100_000, 422, "bad_json"),
        ("POST", f"{API}/sessions", b'{"plan":{"parameters":' + b'{"a":' * 100 + b"1" + b"}" * 102, 422, "bad_json"),
        ("POST", f"{API}/sessions", b'{"plan":{"parameters":{"a":' + b"[" * 500 + b"]" * 500 + b"}}}", 422, "bad_json"),
        ("POST", f"{API}/sessions", b'{"plan":{"parameters":{"a":NaN}}}', 422, "bad_json"),
        ("POST", f"{API}/sessions", b'{"plan":{"parameters":{"a":1e999}}}', 422, "bad_json"),
        ("POST", f"{API}/sessions", b'{"plan":{"parameters":{"\\ud800":1}}}', 422, "bad_json"),
        ("POST", f"{API}/token", b'{"grant":"assertion","assertion":"\\ud800"}', 422, "bad_json"),
        ("POST", f"{API}/token", b'{"grant":"' + b"x" * (64 << 10) + b'"}', 413, "upload_too_large"),
        ("POST", "/login", {"secret": "x" * (64 << 10)}, 413, "upload_too_large"),
        ("POST", f"{API}/sessions", b"[]", 422, "bad_json"),
        ("POST", f"{API}/sessions", b'"' + b"x" * (5 << 20) + b'"', 413, "upload_too_large"),
        ("POST", f"{API}/models", {"other": "field"}, 422, "bad_model"),
    ],
)
def test_what_is_wrong_with_a_request_is_told_with_a_code(
    client: FlaskClient, admin: dict[str, str], method: str, path: str, body: object, status: int, code: str
) -> None:
    answer = client.open(path, method=method, data=body, headers=admin)
    assert (answer.status_code, answer.json["code"]) == (status, code)
    assert answer.json["title"]


def test_a_fault_of_ours_shows_nothing_of_its_inside(
    parts: Parts, client: FlaskClient, admin: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise RuntimeError("the inside")

    monkeypatch.setattr(parts.sessions, "running", broken)
    answer = client.get(f"{API}/status", headers=admin)
    assert (answer.status_code, answer.json["code"]) == (500, "internal_error")
    assert b"the inside" not in answer.data


def test_the_openapi_document_describes_every_route(parts: Parts, client: FlaskClient) -> None:
    document = client.get(f"{API}/openapi.json").json
    described = {(method.upper(), path) for path, operations in document["paths"].items() for method in operations}
    served = {
        (method, rule.rule.replace("<int:", "{").replace("<", "{").replace(">", "}"))
        for rule in parts.app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD"}
        if rule.rule.startswith(API)
    }
    assert described == served
    assert document["openapi"] == "3.1.0"
    text = client.get(f"{API}/openapi.json").text
    schemas = document["components"]["schemas"]
    references = {part.partition('"')[0] for part in text.split('"$ref":"#/components/schemas/')[1:]}
    assert references and references <= schemas.keys()


def test_metrics_count_requests_and_rounds(parts: Parts, client: FlaskClient, admin: dict[str, str]) -> None:
    parts.services.events.publish("round_committed", total_ms=1500.0)
    parts.services.events.publish("ledger_changed", state="refused")
    parts.services.events.publish("ledger_changed", state="training")
    client.get(f"{API}/status", headers=admin)
    text = client.get("/metrics", headers=admin).text
    assert "fedn_rounds_committed_total 1.0" in text
    assert 'fedn_client_results_total{state="refused"} 1.0' in text and "training" not in text
    assert 'fedn_http_requests_total{method="GET",route="/api/v1/status",status="200"} 1.0' in text
