"""APIClient has a method for every route of version 1 in the table of who may call what, and for no other."""

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import fedn
from fedn.api.client import APIClient
from fedn.api.fedn_names import FednNames
from fedn.network.access import ROUTE_ACCESS
from fedn.protocol.rest import PredictionView

PREFIX = "/api/v1"

PREDICTION = PredictionView(session="s", client="c", object_id="blake3:" + "0" * 64, size_bytes=1)
CALLS: dict[str, Callable[[APIClient, Path], Any]] = {
    "ca": lambda api, file: api.ca(),
    "enrol": lambda api, file: api.enrol(name="c", role="client", csr="x", secret="s"),
    "renew_token": lambda api, file: api.renew_token("a"),
    "admin_token": lambda api, file: api.admin_token("s"),
    "buy_token": lambda api, file: APIClient.buy_token(api, "viewer"),
    "join_string": lambda api, file: api.join_string(),
    "add_combiner": lambda api, file: api.add_combiner(name="c", host="h", port=1, max_clients=1, instance="i"),
    "heartbeat": lambda api, file: api.heartbeat("c", instance="i"),
    "combiners": lambda api, file: api.combiners(),
    "combiner": lambda api, file: api.combiner("c"),
    "remove_combiner": lambda api, file: api.remove_combiner("c"),
    "assign": lambda api, file: api.assign(),
    "clients": lambda api, file: api.clients(),
    "client": lambda api, file: api.client("c"),
    "remove_client": lambda api, file: api.remove_client("c"),
    "create_worker_group": lambda api, file: api.create_worker_group("g", 2),
    "worker_groups": lambda api, file: api.worker_groups(),
    "worker_group": lambda api, file: api.worker_group("g"),
    "delete_worker_group": lambda api, file: api.delete_worker_group("g"),
    "join_worker_group": lambda api, file: api.join_worker_group("g"),
    "relay_token": lambda api, file: api.relay_token("g", "t"),
    "ask_detour": lambda api, file: api.ask_detour("g", "t", call="c" * 16, reason="r"),
    "start_session": lambda api, file: api.start_session({}),
    "sessions": lambda api, file: api.sessions(),
    "session": lambda api, file: api.session("s"),
    "stop_session": lambda api, file: api.stop_session("s"),
    "resume_session": lambda api, file: api.resume_session("s"),
    "rounds": lambda api, file: api.rounds("s"),
    "round": lambda api, file: api.round("s", 0),
    "accounting": lambda api, file: api.accounting("s"),
    "statistics": lambda api, file: api.statistics("s"),
    "round_statistics": lambda api, file: api.round_statistics("s", 0),
    "validations": lambda api, file: api.validations(),
    "validations of a session": lambda api, file: api.validations("s"),
    "start_predictions": lambda api, file: api.start_predictions(),
    "predictions": lambda api, file: api.predictions("s"),
    "download_prediction": lambda api, file: api.download_prediction(PREDICTION, file),
    "models": lambda api, file: api.models(),
    "model": lambda api, file: api.model("m"),
    "download_model": lambda api, file: api.download_model("m", file),
    "seed": lambda api, file: api.seed(file),
    "trail": lambda api, file: api.trail(),
    "trail_entries": lambda api, file: list(api.trail_entries()),
    "trail_key": lambda api, file: api.trail_key(),
    "verify_trail": lambda api, file: api.verify_trail(),
    "packages": lambda api, file: api.packages(),
    "upload_package": lambda api, file: api.upload_package(b"x"),
    "download_package": lambda api, file: api.download_package("p", file),
    "activate_package": lambda api, file: api.activate_package(None),
    "collect_garbage": lambda api, file: api.collect_garbage(),
    "status": lambda api, file: api.status(),
    "events": lambda api, file: api.events(),
    "watch": lambda api, file: next(api.watch()),
    "openapi": lambda api, file: api.openapi(),
}


FEDN_NAMES = {name for name, _ in inspect.getmembers(FednNames, inspect.isfunction) if not name.startswith("_")}


class Asked(Exception):
    """Ends a call where it would go out."""


class Recorder:
    """Stands for the transport: notes the request and goes no further."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    def stream(self, method: str, path: str, **rest: Any) -> Any:
        self.asked.append((method, path))
        raise Asked

    json = stream

    def text(self, path: str, **rest: Any) -> Any:
        return self.stream("GET", path)


def route_of(method: str, path: str) -> tuple[str, str]:
    """The rule of the table that a path belongs to: the one with the fewest variable parts."""
    fitting = [
        (how, rule)
        for how, rule in ROUTE_ACCESS
        if how == method and re.fullmatch(re.sub(r"<[^>]*>", "[^/]+", rule), path)
    ]
    assert fitting, f"{method} {path} is not in the table"
    return min(fitting, key=lambda route: route[1].count("<"))


def test_every_route_has_a_method_and_every_method_a_route(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x")
    called = set()
    for call in CALLS.values():
        api = APIClient("https://localhost", admin_secret="s")
        recorder = Recorder()
        api._http = recorder  # type: ignore[assignment]
        with pytest.raises(Asked):
            call(api, file)
        called.add(route_of(*recorder.asked[0]))
    assert called == {route for route in ROUTE_ACCESS if route[1].startswith(PREFIX)}


def test_every_public_method_is_in_this_test() -> None:
    public = {name for name, _ in inspect.getmembers(APIClient, inspect.isfunction) if not name.startswith("_")}
    assert public - {"close"} - FEDN_NAMES == {name for name in CALLS if " " not in name}


@pytest.mark.parametrize("name", sorted(FEDN_NAMES))
def test_every_name_of_fedns_sdk_asks_a_route(name: str, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x")
    api = APIClient("https://localhost", admin_secret="s")
    recorder = Recorder()
    api._http = recorder  # type: ignore[assignment]
    method = getattr(api, name)
    given = {"index": 0, "path": file}
    with pytest.raises(Asked):
        method(**{argument: given.get(argument, "x") for argument in inspect.signature(method).parameters})
    assert route_of(*recorder.asked[0]) in ROUTE_ACCESS


def test_every_name_of_fedns_sdk_stands_in_the_table_of_the_reference() -> None:
    page = (Path(fedn.__file__).resolve().parent.parent / "docs" / "reference" / "rest.md").read_text()
    assert {name for name in FEDN_NAMES if f"`{name}`" not in page} == set()
