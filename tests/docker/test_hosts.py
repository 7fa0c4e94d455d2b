"""The walk-through of docs/how-to/run-over-several-hosts.md: each host a Compose project on a network of its own.

The hosts reach one another by name at addresses of their own, through published ports, with TLS everywhere: also to
MongoDB and the S3 server. No container sees another host's network.
"""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml

from tests.docker.deployment import CONSOLE_PORT, PROJECT, Clone, inspect, run
from tests.support.federation import wait_for

WITHIN_S = 240.0
ADDRESSES = {"stores.example.org": "10.213.1.1", "fedn.example.org": "10.213.2.1", "north.example.org": "10.213.3.1"}
"""Each the gateway of a network made here: an address of this machine's, and of that host alone."""
PUBLIC_PORT = "23080"
SECRETS = {
    "FEDN_ALLIANCE_AUTH_TOKEN": "an-enrolment-secret-of-the-walk-through",
    "FEDN_ALLIANCE_ADMIN_AUTH_TOKEN": "an-admin-secret-of-the-walk-through",
    "FEDN_MONGO_USER": "fedn",
    "FEDN_MONGO_PASSWORD": "a-mongo-password-of-the-walk-through",
    "FEDN_MINIO_ACCESS_KEY": "fedn",
    "FEDN_MINIO_SECRET_KEY": "an-s3-secret-of-the-walk-through",
}
MAKE_CERTIFICATES = r"""
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj /CN=stores-ca \
  -keyout stores-ca.key -out stores-ca.crt
mkdir certs
openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=stores.example.org \
  -keyout certs/private.key -out stores.csr
openssl x509 -req -in stores.csr -CA stores-ca.crt -CAkey stores-ca.key -CAcreateserial -days 825 \
  -extfile <(echo subjectAltName=DNS:stores.example.org) -out certs/public.crt
cat certs/private.key certs/public.crt > certs/mongo.pem
chmod 644 certs/*
"""
PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "run-over-several-hosts.md"


class Host(Clone):
    """A host: a folder, a Compose project, and the files that it runs.

    Args:
        runs: the service, whose files are compose/FILE.yaml and compose/hosts/FILE.yaml.
        settings: its `.env`.
        knows: names of other hosts, which no DNS knows.
    """

    def __init__(
        self, folder: Path, images: dict[str, str], *, file: str, settings: dict[str, str], knows: dict[str, list[str]]
    ) -> None:
        super().__init__(folder, images | {"COMPOSE_PROJECT_NAME": f"{PROJECT}-{folder.name}"})
        lines = [f"{name}={value}\n" for name, value in settings.items()]
        (folder / ".env").write_text("".join(lines))
        names = {
            service: {"extra_hosts": [f"{name}:{ADDRESSES[name]}" for name in others]}
            for service, others in knows.items()
        }
        (folder / "compose" / "hosts" / "extra-hosts.yaml").write_text(yaml.safe_dump({"services": names}))
        self._files = [f"compose/{file}.yaml", f"compose/hosts/{file}.yaml"]
        if knows:
            self._files.append("compose/hosts/extra-hosts.yaml")

    def compose(self, *arguments: str, within_s: int = 900) -> str:
        files = [argument for file in self._files for argument in ("-f", file)]
        return super().compose(*files, *arguments, within_s=within_s)


@pytest.fixture
def wide_area(engine: None) -> Iterator[None]:
    """An address for each host."""
    for name, address in ADDRESSES.items():
        subnet = f"{address.rpartition('.')[0]}.0/24"
        label = f"com.docker.compose.project={PROJECT}"
        command = ["docker", "network", "create", "--label", label, "--subnet", subnet, "--gateway", address]
        run([*command, f"{PROJECT}-at-{name}"])
    try:
        yield
    finally:
        for name in ADDRESSES:
            run(["docker", "network", "rm", f"{PROJECT}-at-{name}"])


def test_commands_of_the_page_are_those_that_are_tested() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert MAKE_CERTIFICATES.strip() in page
    for file, service in (("services", ""), ("reducer", ""), ("combiner", " combiner"), ("client", "")):
        assert f"docker-compose -f compose/{file}.yaml -f compose/hosts/{file}.yaml up -d{service}\n" in page


def test_four_hosts_that_share_no_network_train_together(
    wide_area: None, images: dict[str, str], tmp_path: Path
) -> None:
    with ExitStack() as exits:

        def start(host: Host, *services: str) -> Host:
            def end() -> None:
                host.compose("down", "-v")

            exits.callback(end)
            host.compose("up", "-d", *services, within_s=1200)
            return host

        stores = Host(
            tmp_path / "stores",
            images,
            file="services",
            settings={
                **SECRETS,
                "FEDN_PUBLISH_ADDRESS": ADDRESSES["stores.example.org"],
                "FEDN_MINIO_CONSOLE_PORT": CONSOLE_PORT,
                "FEDN_CERTS": "../certs",
                "FEDN_ME_USERNAME": "nobody",
                "FEDN_ME_PASSWORD": "a-browser-that-is-not-started",
            },
            knows={},
        )
        stores.type(MAKE_CERTIFICATES)
        start(stores)
        reducer = Host(
            tmp_path / "reducer",
            images,
            file="reducer",
            settings={
                **SECRETS,
                "FEDN_PUBLISH_ADDRESS": ADDRESSES["fedn.example.org"],
                "FEDN_REDUCER_HOST": "fedn.example.org",
                "FEDN_MONGO_HOST": "stores.example.org",
                "FEDN_MINIO_HOST": "stores.example.org",
                "FEDN_STORES_CA": "../stores-ca.crt",
            },
            knows={"reducer": ["stores.example.org", "north.example.org"]},
        )
        (reducer.folder / "stores-ca.crt").write_bytes((stores.folder / "stores-ca.crt").read_bytes())
        start(reducer)

        def on_reducer(*command: str) -> str:
            return reducer.compose("exec", "-T", "reducer", "fedn", *command)

        def answers() -> bool:
            ids = reducer.containers("reducer")
            return bool(ids) and inspect(ids[0])["health"] == "healthy"

        wait_for(answers, f"the reducer is healthy:\n{reducer.logs()}", WITHIN_S)
        join = on_reducer("token", "create").strip()
        assert join.startswith("fedn1.")
        north = Host(
            tmp_path / "north",
            images,
            file="combiner",
            settings={
                "FEDN_JOIN": join,
                "FEDN_PUBLISH_ADDRESS": ADDRESSES["north.example.org"],
                "FEDN_COMBINER_NAME": "north",
                "FEDN_COMBINER_HOST": "north.example.org",
                "FEDN_COMBINER_PUBLIC_PORT": PUBLIC_PORT,
            },
            knows={"combiner": ["fedn.example.org"]},
        )
        start(north, "combiner")
        sites = []
        for index in range(2):
            site = Host(
                tmp_path / f"site-{index}",
                images,
                file="client",
                settings={"FEDN_JOIN": join, "FEDN_CLIENT_NAME": f"hospital-{index}", "FEDN_DATA": "../data"},
                knows={"client": ["fedn.example.org", "north.example.org"]},
            )
            (site.folder / "data").mkdir()
            (site.folder / "data" / "partition.json").write_text(json.dumps({"index": index, "count": 2, "seed": 0}))
            sites.append(start(site))

        def attached() -> dict[str, str]:
            return {
                c["name"]: c["combiner"] for c in json.loads(on_reducer("client", "list", "--json")) if c["attached"]
            }

        try:
            wait_for(lambda: len(attached()) == 2, "both sites are attached", WITHIN_S)
        except AssertionError:
            print(reducer.logs(), north.logs(), *(site.logs() for site in sites))
            raise
        assert attached() == {"hospital-0": "north", "hospital-1": "north"}
        [combiner] = json.loads(on_reducer("combiner", "list", "--json"))
        assert (combiner["host"], combiner["port"]) == ("north.example.org", int(PUBLIC_PORT))
        for host, service in ((reducer, "reducer"), (north, "combiner"), (sites[0], "client")):
            [container] = host.containers(service)
            assert inspect(container)["networks"] == [f"{PROJECT}-{host.folder.name}_default"]

        on_reducer("project", "upload", "/projects/digits")
        plan = ["--plan", "/projects/digits/plan.yaml", "--rounds", "3"]
        on_reducer("session", "start", *plan, "--set", "clients_required=2")
        assert "4 entries" in on_reducer("trail", "verify")
