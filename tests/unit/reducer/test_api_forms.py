"""What all routes of the API have in common: the document, lists, ETags, problems, and the pages that explain them."""

from pathlib import Path

import numpy as np
import pytest
from flask.testing import FlaskClient
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from fedn.models.wire import encode
from fedn.network.tokens import Role
from fedn.reducer.engine.roster import AttachedClient
from tests.unit.reducer.parts import Parts, make_parts
from tests.unit.reducer.test_api import API, seed


@pytest.fixture
def admin(parts: Parts) -> dict[str, str]:
    return parts.headers(Role.ADMIN)


def test_the_openapi_document_is_valid_and_has_examples_that_are_valid_too(parts: Parts, client: FlaskClient) -> None:
    document = client.get(f"{API}/openapi.json").json
    OpenAPIV31SpecValidator(document).validate()
    registry = Registry().with_resource("", Resource(document, DRAFT202012))
    examples = 0
    for operations in document["paths"].values():
        for operation in operations.values():
            bodies = [operation.get("requestBody", {}), *operation["responses"].values()]
            for media in (media for body in bodies for media in body.get("content", {}).values()):
                if "example" in media:
                    examples += 1
                    rooted = {**media["schema"], "components": document["components"]}
                    Draft202012Validator(rooted, registry=registry).validate(media["example"])
                else:
                    assert media["schema"].get("type") in {"string", "object"}
    assert examples > 100


def test_lists_are_filtered_sorted_and_linked_in_one_way(
    parts: Parts, client: FlaskClient, admin: dict[str, str]
) -> None:
    for name in ("c", "a", "b"):
        parts.headers(Role.CLIENT, name)
    parts.services.sessions.roster.attach(
        AttachedClient(client="a", combiner="c1", kinds=frozenset(), attributes={}, since=1.0)
    )

    def names(query: str) -> list[str]:
        return [item["name"] for item in client.get(f"{API}/clients{query}", headers=admin).json["items"]]

    assert names("") == ["a", "b", "c"]
    assert names("?sort=-name") == ["c", "b", "a"]
    assert names("?attached=true") == ["a"]
    assert names("?attached=false&sort=-name&limit=1") == ["c"]
    assert names("?combiner=c1") == ["a"]
    page = client.get(f"{API}/clients?limit=1&offset=1&sort=-name", headers=admin)
    assert page.json["total"] == 3
    links = page.headers["Link"]
    assert f'<{API}/clients?limit=1&offset=2&sort=-name>; rel="next"' in links
    assert f'<{API}/clients?limit=1&offset=0&sort=-name>; rel="prev"' in links
    for query in ("?sort=key", "?attached=yes", "?combiner=", "?offset=1_0", "?limit=+5"):
        answer = client.get(f"{API}/clients{query}", headers=admin)
        assert (answer.status_code, answer.json["code"]) == (422, "bad_argument"), query


def test_models_and_the_trail_can_be_asked_for_by_kind_and_session(
    parts: Parts, client: FlaskClient, admin: dict[str, str]
) -> None:
    seed(client, admin)
    client.post(f"{API}/models", data=bytes(encode({"w": np.ones(6, np.float32)})), headers=admin)
    for path in ("models", "trail"):
        found = client.get(f"{API}/{path}?kind=seed&limit=1&offset=1&sort=-index", headers=admin).json
        assert ([item["index"] for item in found["items"]], found["total"]) == ([0], 2)
        assert client.get(f"{API}/{path}?session=s-1", headers=admin).json["total"] == 0
        assert [item["index"] for item in client.get(f"{API}/{path}?sort=index", headers=admin).json["items"]] == [0, 1]
        assert [item["index"] for item in client.get(f"{API}/{path}?sort=-index", headers=admin).json["items"]] == [
            1,
            0,
        ]


def test_a_caller_that_has_a_model_is_told_so_and_gets_no_bytes(client: FlaskClient, admin: dict[str, str]) -> None:
    model = seed(client, admin).model_id
    for path, kept in [
        (f"{API}/models/{model}/download", "immutable"),
        (f"{API}/models/{model}/download?format=npz", "immutable"),
        (f"{API}/models/{model}", "no-cache"),
        (f"{API}/models", "no-cache"),
    ]:
        first = client.get(path, headers=admin)
        tag = first.headers["ETag"]
        assert (first.status_code, kept in first.headers["Cache-Control"]) == (200, True)
        again = client.get(path, headers={**admin, "If-None-Match": tag})
        assert (again.status_code, again.data, again.headers["ETag"]) == (304, b"", tag)
        other = client.get(path, headers={**admin, "If-None-Match": '"another"'})
        assert (other.status_code, other.data) == (200, first.data)
    before = client.get(f"{API}/models", headers=admin).headers["ETag"]
    client.post(f"{API}/models", data=bytes(encode({"w": np.ones(6, np.float32)})), headers=admin)
    assert client.get(f"{API}/models", headers={**admin, "If-None-Match": before}).status_code == 200


def test_other_bodies_than_json_are_refused_by_their_type(client: FlaskClient, admin: dict[str, str]) -> None:
    answer = client.post(f"{API}/sessions", data=b"<plan/>", content_type="application/xml", headers=admin)
    assert (answer.status_code, answer.json["code"]) == (415, "unsupported_media_type")
    assert answer.mimetype == "application/problem+json"


def test_the_type_of_an_error_is_a_page_that_explains_it(client: FlaskClient, admin: dict[str, str]) -> None:
    problem = client.get(f"{API}/sessions/none", headers=admin).json
    told = client.get(problem["type"]).json
    assert (told["code"], told["statuses"]) == ("no_such_session", [404])
    page = client.get(problem["type"], headers={"Accept": "text/html"})
    assert page.mimetype == "text/html" and b"there is no such session" in page.data.lower()
    assert client.get("/errors/nothing", headers={"Accept": "application/json"}).json["code"] == "no_such_code"
    listed = client.get("/errors", headers={"Accept": "text/html"}).text
    assert 'href="/errors/no_such_session"' in listed


def test_the_type_of_an_error_is_in_the_documentation_where_the_settings_say_where_that_is(tmp_path: Path) -> None:
    parts = make_parts(tmp_path, docs_url="https://docs.example.org/fedn/")
    try:
        client = parts.app.test_client()
        headers = parts.headers(Role.ADMIN)
        problem = client.get(f"{API}/sessions/none", headers=headers).json
        assert problem["type"] == "https://docs.example.org/fedn/reference/errors/#no_such_session"
        faults = client.post(f"{API}/sessions", json={"plan": {"rounds": -1}}, headers=headers).json["problems"]
        assert {fault["type"] for fault in faults} == {"https://docs.example.org/fedn/reference/errors/#bad_field"}
    finally:
        parts.close()


def test_the_api_is_shown_as_a_page_without_any_script_of_its_own(client: FlaskClient) -> None:
    page = client.get("/api", headers={"Accept": "text/html"})
    assert page.status_code == 200
    for operation in [
        one for path in client.get(f"{API}/openapi.json").json["paths"].values() for one in path.values()
    ]:
        assert f'id="{operation["operationId"]}"' in page.text
    assert "{&#34;" in page.text or "&#34;" in page.text  # examples are escaped
    assert "style=" not in page.text and "onclick" not in page.text and "http://" not in page.text


def test_a_method_that_is_not_allowed_is_told_which_are(client: FlaskClient, admin: dict[str, str]) -> None:
    answer = client.delete(f"{API}/status", headers=admin)
    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, HEAD")
