"""What FEDn's users type, with a real Docker engine: the tiers one by one, then the worst that can happen to them."""

import json
import subprocess
from collections.abc import Iterator

import minio
import pymongo
import pytest

from fedn import APIClient
from fedn.protocol.rest import SessionView
from tests.docker.deployment import ADDRESS, CONSOLE_PORT, PROJECT, Clone, api_of, inspect
from tests.support.federation import wait_for

WITHIN_S = 240.0
ROUNDS = 1000
"""More than the slowest machine gets to before all is done; then the session is stopped."""
EXAMPLE_ADMIN_SECRET = "example-admin-secret-replace-me"
PACED = '''"""The digits project at a steady pace, so that a session is long however fast the machine is."""

import time

from learner import DigitsLearner


class PacedLearner(DigitsLearner):
    def train(self, weights, context):
        begun = time.monotonic()
        result = super().train(weights, context)
        time.sleep(max(0.0, 3.0 - (time.monotonic() - begun)))
        return result
'''


@pytest.fixture(scope="module")
def clone(images: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clone]:
    """With nothing running."""
    places = {
        "FEDN_PUBLISH_ADDRESS": ADDRESS,
        "FEDN_MINIO_CONSOLE_PORT": CONSOLE_PORT,
        "COMPOSE_PROJECT_NAME": PROJECT,
    }
    made = Clone(tmp_path_factory.mktemp("clone") / "fedn", images | places)
    made.type("cp .env.example .env && chmod 600 .env")
    try:
        yield made
    finally:
        made.compose("down", "-v", "--remove-orphans")


def test_the_files_are_valid_together_and_each_alone(clone: Clone) -> None:
    everything = clone.compose("config", "--services").split()
    assert {"mongo", "minio", "reducer", "combiner", "combiner2", "client", "project"} <= set(everything)
    for name in ("services", "reducer", "combiner", "client"):
        clone.type(f"docker-compose -f compose/{name}.yaml config -q")
    assert "mongo-express" in clone.compose("--profile", "browser", "config", "--services").split()


def test_nothing_of_the_machine_is_in_the_image_and_it_runs_as_nobody(clone: Clone, images: dict[str, str]) -> None:
    image = images["FEDN_IMAGE"]
    user = clone.type(f"docker run --rm --entrypoint id {image} -u").strip()
    assert user == "10001"
    history = clone.type(f"docker history --no-trunc {image}") + clone.type(f"docker inspect {image}")
    assert "replace-me" not in history and "BEGIN" not in history
    kept = clone.type(f"docker run --rm -u 0 --entrypoint find {image} / -xdev -name '.env*' -o -xdev -name '*.key'")
    assert kept.strip() == ""


def test_example_secrets_start_no_reducer_that_others_could_reach(clone: Clone) -> None:
    line = "docker-compose -f compose/reducer.yaml run --rm -T -e FEDN_REDUCER_PUBLISHED_AT=0.0.0.0 reducer"
    done = subprocess.run(
        ["bash", "-c", line],
        cwd=clone.folder,
        env=clone.environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode != 0
    assert "example_secret" in done.stdout + done.stderr


def test_what_fedns_users_type_trains_and_survives_the_worst(clone: Clone) -> None:
    try:
        live_through_a_session(clone)
    except BaseException:
        print(clone.logs())
        raise


def live_through_a_session(clone: Clone) -> None:
    # Any order will do: clients and combiners wait for the reducer, the reducer for its stores.
    clone.type("docker-compose -f compose/client.yaml up -d --scale client=5")
    clone.type("docker-compose -f compose/combiner.yaml up -d")
    clone.type("docker-compose -f compose/reducer.yaml up -d")
    clone.type("docker-compose -f compose/services.yaml up -d")
    wait_for(lambda: healthy(clone, "reducer", "combiner", "combiner2"), "the servers are healthy", WITHIN_S)
    with api_of(clone, f"https://{ADDRESS}:8090", EXAMPLE_ADMIN_SECRET) as api:
        wait_for(lambda: attached(api) == 5, "five clients are attached", WITHIN_S)
        wait_for(lambda: healthy_clients(clone) == 5, "the clients are healthy", WITHIN_S)
        check_separation(clone, api)
        session = start_as_with_fedn(clone)
        rounds_more(api, session, 2)
        clone.compose("up", "-d", "--no-recreate", "--scale", "client=8", within_s=300)
        wait_for(lambda: attached(api) == 8, "eight clients are attached", WITHIN_S)
        took_part(api, session, 8)

        clone.compose("kill", "combiner")
        rounds_more(api, session, 2)
        wait_for(lambda: attached(api) == 8, "the clients of the killed combiner are with the other", WITHIN_S)
        clone.compose("up", "-d", "--no-recreate", "--scale", "client=8", within_s=300)
        wait_for(lambda: sum(view.linked for view in api.combiners()) == 2, "both combiners are linked", WITHIN_S)

        lose_a_client_for_a_while(clone, api, session)

        clone.compose("restart", "reducer")
        rounds_more(api, session, 2)

        clone.compose("down")
        assert clone.compose("ps", "-q").split() == []
        clone.compose("up", "-d", "--scale", "client=8", within_s=600)
        assert running(api, session), "the session goes on where it was"
        wait_for(lambda: attached(api) == 8, "eight new clients are attached", WITHIN_S)
        rounds_more(api, session, 2)
        api.stop_session(session)
        done = wait_for(lambda: v if (v := api.session(session)).state != "running" else None, "it ends", WITHIN_S)
        assert done.state == "stopped", done.error
        check_what_is_left(clone, api, done)


def healthy(clone: Clone, *services: str) -> bool:
    return all(
        len(ids := clone.containers(service)) == 1 and inspect(ids[0])["health"] == "healthy" for service in services
    )


def healthy_clients(clone: Clone) -> int:
    return sum(inspect(container)["health"] == "healthy" for container in clone.containers("client"))


def attached(api: APIClient) -> int:
    return sum(client.attached for client in api.clients())


def running(api: APIClient, session: str) -> bool:
    return wait_for(lambda: api.session(session), "the reducer answers", WITHIN_S).state == "running"


def rounds_more(api: APIClient, session: str, more: int) -> None:
    """Waits for so many further rounds, which all must be within the session."""
    view = wait_for(lambda: api.session(session), "the reducer answers", WITHIN_S)
    assert view.state == "running", f"the session ended too early ({view.rounds_done} rounds): {view.error}"
    done = view.rounds_done
    wait_for(lambda: api.session(session).rounds_done >= done + more, f"{more} more rounds than {done}", WITHIN_S)


def took_part(api: APIClient, session: str, count: int) -> None:
    """Waits for a round to which so many clients contributed."""

    def found() -> bool:
        entries = [entry for entry in api.trail_entries() if entry.session == session]
        return any(sum(len(m.contributions) for m in entry.combiner_models) == count for entry in entries)

    wait_for(found, f"{count} clients took part in a round", WITHIN_S)


def check_separation(clone: Clone, api: APIClient) -> None:
    """Names are base and container id; sites see the authority and the enrolment secret, no more of the servers."""
    ids = clone.containers("client")
    assert sorted(client.name for client in api.clients()) == sorted(f"client-{container[:12]}" for container in ids)
    pieces = {clone_exec(container, "cat", "/var/lib/fedn/piece/partition.json") for container in ids}
    assert len(pieces) == 5, pieces
    for container in [*ids, *clone.containers("combiner")]:
        known = " ".join(f"{k}={v}" for k, v in inspect(container)["environment"].items())
        assert "admin" not in known.lower() and "MONGO" not in known and "MINIO" not in known
        assert clone_exec(container, "ls", "/trust").split() == ["ca.crt"]
        assert clone_exec(container, "id", "-u").strip() == "10001"


def clone_exec(container: str, *command: str) -> str:
    done = subprocess.run(
        ["docker", "exec", container, *command], capture_output=True, text=True, timeout=120, check=True
    )
    return done.stdout


def start_as_with_fedn(clone: Clone) -> str:
    """The package to /context, the seed to /seed, and off with /start, all with curl; id of the session."""
    client = clone.folder / "test-projects" / "digits" / "client"
    (client / "paced.py").write_text(PACED)
    manifest = client / "fedn.yaml"
    manifest.write_text(manifest.read_text().replace("learner:DigitsLearner", "paced:PacedLearner"))
    clone.type("tar -C test-projects/digits -czf package.tgz client")
    clone.type("docker-compose exec -T reducer fedn token create --role admin > token 2> expires")
    curl = f'curl -sS --fail-with-body --cacert ca.crt -H "Authorization: Bearer $(cat token)" https://{ADDRESS}:8090'
    clone.type(f"{curl}/context -F file=@package.tgz")
    clone.type(f"{curl}/seed -F seed=@test-projects/digits/seed/seed.safetensors")
    fields = f"-d rounds={ROUNDS} -d round_timeout=120 -d clients_required=2 -d clients_requested=8 -d helper=sklearn"
    clone.type(f"{curl}/start {fields}")
    return str(json.loads(clone.type(f"{curl}/api/v1/status"))["session"])


def lose_a_client_for_a_while(clone: Clone, api: APIClient, session: str) -> None:
    lost = clone.containers("client")[0]
    network = inspect(lost)["networks"][0]
    clone.type(f"docker network disconnect {network} {lost}")
    wait_for(lambda: attached(api) == 7, "the lost client is noticed", WITHIN_S)
    rounds_more(api, session, 1)
    clone.type(f"docker network connect {network} {lost}")
    wait_for(lambda: attached(api) == 8, "the lost client is back", WITHIN_S)
    assert inspect(lost)["restarts"] == 0, "the same process, all the time"


def check_what_is_left(clone: Clone, api: APIClient, session: SessionView) -> None:
    """Models lie in S3, the trail in MongoDB, one entry a round, and it verifies."""
    entries = list(api.trail_entries())
    assert [entry.kind.value for entry in entries] == ["seed"] + ["round"] * session.rounds_done
    verified = clone.compose("exec", "-T", "reducer", "fedn", "trail", "verify")
    assert f"{len(entries)} entries" in verified
    account = "fedn_admin:example-mongo-password-replace-me"
    with pymongo.MongoClient(f"mongodb://{account}@{ADDRESS}:27017/") as mongo:
        assert mongo["fedn-network"].trail.count_documents({}) == len(entries)
    store = minio.Minio(f"{ADDRESS}:9000", "fedn_admin", "example-minio-secret-replace-me", secure=False)
    names = {found.object_name.replace("/", ":") for found in store.list_objects("fedn", recursive=True)}
    assert {entry.model_id for entry in entries} <= names
    # The stop may have come before clients had said how the very last one does.
    late = {entry.hash for entry in entries[-5:]}
    assert late_accuracy(api, late) > 0.8


def late_accuracy(api: APIClient, entry_hashes: set[str]) -> float:
    """Mean accuracy of these trail entries' models on what clients held out."""
    records = [record for record in api.validations() if record.entry_hash in entry_hashes]
    examples = sum(record.num_examples for record in records)
    assert examples, "clients have validated late models"
    return sum(record.metrics["accuracy"] * record.num_examples for record in records) / examples


def test_one_word_picks_the_project_and_up_brings_all_of_it(clone: Clone) -> None:
    clone.compose("down", "-v")
    clone.type("EXAMPLE=data_center docker-compose up -d --build")  # no image of an earlier code

    def fedn(*command: str) -> str:
        return clone.compose("exec", "-T", "reducer", "fedn", *command)

    def has_begun() -> bool:
        status = json.loads(fedn("status", "--json"))
        return status["trail_length"] == 1 and status["clients_attached"] == 5

    wait_for(has_begun, "the seed of the project begins the trail, and its clients are there", WITHIN_S)
    [package] = json.loads(fedn("package", "list", "--json"))
    assert package["name"] == "data-center" and package["active"]
    fedn("session", "start", "--plan", "/projects/data_center/plan.yaml", "--rounds", "2")
    assert "3 entries" in fedn("trail", "verify")
