"""The reducer on a real MongoDB and a real S3 server, which go away in the middle of a session."""

import numpy as np

from fedn.stores.mongo import MongoStateStore
from fedn.stores.s3 import S3ModelStore
from tests.support import servers
from tests.support.federation import Federation, wait_for

ACCOUNT = ("tester", "tester-secret-of-s3")


def test_a_session_outlives_an_outage_of_mongodb_and_s3(tmp_path):
    for folder in ("mongo", "s3"):
        (tmp_path / folder).mkdir()
    with (
        servers.mongodb_server(tmp_path / "mongo") as mongo,
        servers.rclone_server(tmp_path / "s3", ACCOUNT) as s3,
    ):
        url, endpoint = f"mongodb://127.0.0.1:{mongo.port}", f"127.0.0.1:{s3.port}"
        flags = [
            *("--state-kind", "mongodb", "--state-url", url, "--state-database", "hospital"),
            *("--models-kind", "s3", "--models-endpoint", endpoint, "--models-bucket", "fedn-models"),
            *("--models-access-key", ACCOUNT[0], "--models-secret-key", ACCOUNT[1], "--no-models-secure"),
        ]
        with Federation(tmp_path, clients=2, reducer_flags=flags) as federation:
            federation.seed()
            federation.hold("client-1", "client-2", from_round=1)
            session = federation.api.start_session({"rounds": 8})
            federation.wait_round(session.id, 1, lambda r: str(r.state) == "running")
            s3.kill()
            mongo.kill()
            federation.release("client-1", "client-2")
            kinds = ("store_unavailable",)
            wait_for(
                lambda: any(kind in federation.processes["reducer"].log.read_text() for kind in kinds),
                "the reducer says that a store is away",
            )
            mongo.start()
            s3.start()
            done = federation.wait_ended(session.id)
            assert (done.state, done.rounds_done) == ("finished", 8), done.error
            np.testing.assert_allclose(federation.weights(done.model_id)["0"], 8.0)
            verified = federation.api.verify_trail()
            assert verified.length == 9

        # What lasts is in the stores, and nothing else is needed to read it.
        state = MongoStateStore(url, "hospital")
        models = S3ModelStore(endpoint, "fedn-models", *ACCOUNT, secure=False)
        try:
            entries = state.entries("fedn-network")
            assert entries[-1].hash == verified.head
            stored = {one.object_id for one in models.objects()}
            assert {entry.model_id for entry in entries} <= stored
        finally:
            state.close()
            models.close()
