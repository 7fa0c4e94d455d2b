"""Who may call what: every route of the app against the access table, for every kind of caller."""

import re
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from fedn.network.access import ADMIN_SECRET, ENROLMENT_SECRET, PUBLIC, ROUTE_ACCESS
from fedn.network.tokens import Role, TokenIssuer, create_or_load_signing_key
from tests.unit.reducer.parts import ADMIN_SECRET as SECRET
from tests.unit.reducer.parts import ENROLMENT_SECRET as JOIN_SECRET
from tests.unit.reducer.parts import Parts, make_parts

VALUES = {"index": "0", "filename": "style.css"}


def routes(parts: Parts) -> list[tuple[str, str]]:
    return [
        (method, rule.rule)
        for rule in parts.app.url_map.iter_rules()
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"})
    ]


def path_of(rule: str) -> str:
    return re.sub(r"<(?:\w+:)?(\w+)>", lambda match: VALUES.get(match[1], "nobody"), rule)


def test_the_app_and_the_table_name_the_same_routes(parts: Parts) -> None:
    assert set(routes(parts)) == set(ROUTE_ACCESS)


def test_no_route_answers_options(parts: Parts) -> None:
    assert all("OPTIONS" not in (rule.methods or ()) for rule in parts.app.url_map.iter_rules())


def test_every_role_may_call_its_routes_and_no_others(parts: Parts, client: FlaskClient) -> None:
    callers = {role: parts.headers(role) for role in Role}
    for method, rule in routes(parts):
        access = ROUTE_ACCESS[method, rule]
        for role, headers in callers.items():
            answer = client.open(path_of(rule), method=method, headers=headers)
            answer.close()
            refused = answer.status_code == 403 and (answer.json or {})["code"] == "role_not_allowed"
            if isinstance(access, frozenset):
                assert refused == (role not in access), (method, rule, role)
            assert answer.status_code != 500, (method, rule, role, answer.text)


def test_nobody_gets_in_without_a_token(parts: Parts, client: FlaskClient) -> None:
    for method, rule in routes(parts):
        answer = client.open(path_of(rule), method=method)
        answer.close()
        if ROUTE_ACCESS[method, rule] in {PUBLIC, ADMIN_SECRET}:
            assert answer.status_code != 500, (method, rule)
        else:
            assert answer.status_code == 401, (method, rule)
            assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_only_the_enrolment_secret_enrols(client: FlaskClient, parts: Parts) -> None:
    assert [rule for rule, access in ROUTE_ACCESS.items() if access is ENROLMENT_SECRET] == [("POST", "/api/v1/enrol")]
    for bearer in ("", SECRET, parts.token(Role.ADMIN)):
        answer = client.post("/api/v1/enrol", headers={"Authorization": f"Bearer {bearer}"})
        assert (answer.status_code, answer.json["code"]) == (401, "secret_wrong")
    answer = client.post("/api/v1/enrol", headers={"Authorization": f"Bearer {JOIN_SECRET}"})
    assert answer.json["code"] == "invalid_settings"


def test_the_secrets_open_nothing_else(client: FlaskClient) -> None:
    for secret in (SECRET, JOIN_SECRET):
        answer = client.get("/api/v1/status", headers={"Authorization": f"Bearer {secret}"})
        assert (answer.status_code, answer.json["code"]) == (401, "token_bad")
    answer = client.post(
        "/api/v1/token", json={"grant": "admin_secret"}, headers={"Authorization": f"Bearer {JOIN_SECRET}"}
    )
    assert answer.json["code"] == "secret_wrong"


def test_a_token_of_another_federation_or_key_is_worth_nothing(client: FlaskClient, tmp_path: Path) -> None:
    stranger = TokenIssuer(create_or_load_signing_key(tmp_path / "key"), "fedn-network")
    answer = client.get("/api/v1/status", headers={"Authorization": f"Bearer {stranger.issue('me', Role.ADMIN, 60)}"})
    assert answer.json["code"] == "token_bad"


def test_a_token_in_the_address_is_not_looked_at(parts: Parts, client: FlaskClient) -> None:
    answer = client.get("/api/v1/status", query_string={"token": parts.token(Role.ADMIN)})
    assert answer.status_code == 401


def test_with_mutual_tls_a_sites_token_needs_the_certificate_of_its_key(tmp_path: Path) -> None:
    parts = make_parts(tmp_path / "mutual", mutual_tls=True)
    try:
        client = parts.app.test_client()
        headers = parts.headers(Role.CLIENT, "eins")
        answer = client.get("/api/v1/status", headers=headers)
        assert (answer.status_code, answer.json["code"]) == (401, "certificate_missing")
        other = parts.services.enrolment.ca_pem  # a certificate, but not of this key
        answer = client.get("/api/v1/status", headers=headers, environ_overrides={"SSL_CLIENT_CERT": other})
        assert (answer.status_code, answer.json["code"]) == (403, "certificate_of_another")
        assert client.get("/api/v1/status", headers=parts.headers(Role.VIEWER)).status_code == 200
    finally:
        parts.close()


def test_a_combiner_speaks_for_itself_only(parts: Parts, client: FlaskClient) -> None:
    headers = parts.headers(Role.COMBINER, "eins")
    body = {"name": "zwei", "host": "h", "port": 1, "max_clients": 1, "instance": "i"}
    for path in ("/api/v1/combiners", "/add"):
        answer = client.post(path, json=body, headers=headers)
        assert (answer.status_code, answer.json["code"]) == (403, "not_your_name")
    answer = client.post("/api/v1/combiners/zwei/heartbeat", json={"instance": "i"}, headers=headers)
    assert answer.json["code"] == "not_your_name"


@pytest.mark.parametrize("method", ["TRACE", "PATCH", "OPTIONS"])
def test_other_methods_are_refused(client: FlaskClient, method: str) -> None:
    answer = client.open("/api/v1/status", method=method)
    assert (answer.status_code, answer.json["code"]) == (405, "method_not_allowed")


def test_guessing_the_admin_secret_is_slowed_down(client: FlaskClient) -> None:
    codes = [
        client.post(
            "/api/v1/token", json={"grant": "admin_secret"}, headers={"Authorization": f"Bearer guess {index}"}
        ).json["code"]
        for index in range(12)
    ]
    assert codes == ["secret_wrong"] * 10 + ["too_many_tries"] * 2
