"""`APIClient`: the reducer's REST API, version 1, as typed methods, for combiners, clients, the CLI and programs."""

import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any, Literal, Self

from fedn.api.downloads import save_stream
from fedn.api.events import watch_events
from fedn.api.fedn_names import FednNames
from fedn.api.replies import all_pages, api_path, call, payload_of
from fedn.api.transport import Transport
from fedn.api.worker_groups import WorkerGroupCalls
from fedn.plan.session import SessionPlan
from fedn.protocol import rest
from fedn.protocol.errors import Unauthenticated
from fedn.protocol.trail import TrailEntry, ValidationRecord

_RENEW_BEFORE_S = 60.0
"""An admin token is renewed so long before its end."""


class APIClient(FednNames, WorkerGroupCalls):
    """One reducer. May be used from any thread; every call blocks and raises a FednError where it fails.

    Args:
        url: `https://host:port`.
        token: a role token; may be changed later (`client.token = …`).
        ca: PEM text or path of a PEM file of the federation's CA; None trusts what the system trusts.
        admin_secret: bought into an admin token when first needed, and again before that expires.
        certificate, key: paths of a client certificate and its key, where the reducer wants mutual TLS.
        timeout_s: seconds > 0 without an answer until a call is given up.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        ca: str | bytes | Path | None = None,
        admin_secret: str | None = None,
        certificate: Path | None = None,
        key: Path | None = None,
        timeout_s: float = 30.0,
    ) -> None:
        self.token = token or ""
        self._admin_secret = admin_secret or ""
        self._admin_token: rest.TokenReply | None = None
        self._lock = Lock()
        self._http = Transport(
            url, ca=ca, certificate=certificate, key=key, timeout_s=timeout_s, bearer=self._current_token
        )

    @property
    def url(self) -> str:
        return self._http.url

    def close(self) -> None:
        """Closes idle connections; the client stays usable."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _current_token(self) -> str:
        if self.token or not self._admin_secret:
            return self.token
        with self._lock:
            bought = self._admin_token
            if bought is None or bought.expires_at - _RENEW_BEFORE_S < time.time():
                bought = self._admin_token = self.admin_token(self._admin_secret)
            return bought.token

    # Joining

    def ca(self) -> str:
        """The federation's CA certificate, PEM. Needs no token."""
        return self._http.text(api_path("ca"), bearer="")

    def enrol(
        self,
        *,
        name: str,
        role: Literal["client", "combiner"],
        csr: str | bytes,
        secret: str,
        hosts: Sequence[str] = (),
    ) -> rest.EnrolReply:
        """Binds a name to a key, once. Conflict (`name_taken`) where another key has the name."""
        text = csr.decode() if isinstance(csr, bytes) else csr
        request = payload_of(rest.EnrolRequest, name=name, role=role, csr=text, hosts=tuple(hosts))
        return call(self._http, "POST", api_path("enrol"), rest.EnrolReply, payload=request, bearer=secret)

    def renew_token(self, assertion: str) -> rest.TokenReply:
        """A new token for the holder of an enrolled key, which `fedn.network.tokens.make_assertion` proves."""
        request = payload_of(rest.TokenRequest, grant="assertion", assertion=assertion)
        return call(self._http, "POST", api_path("token"), rest.TokenReply, payload=request, bearer="")

    def admin_token(self, admin_secret: str, role: Literal["admin", "viewer"] = "admin") -> rest.TokenReply:
        """A token of the role `admin` or `viewer` for the admin secret."""
        request = payload_of(rest.TokenRequest, grant="admin_secret", role=role)
        return call(self._http, "POST", api_path("token"), rest.TokenReply, payload=request, bearer=admin_secret)

    def buy_token(self, role: Literal["admin", "viewer"]) -> rest.TokenReply:
        """A token for the admin secret that this client has; Unauthenticated (`no_admin_secret`) where it has none."""
        if not self._admin_secret:
            raise Unauthenticated(
                "no_admin_secret",
                "only the admin secret buys a token of a role",
                fix="Give it with --admin-secret or FEDN_ALLIANCE_ADMIN_AUTH_TOKEN.",
            )
        return self.admin_token(self._admin_secret, role)

    def join_string(self, url: str = "") -> rest.JoinReply:
        """The one line that a new site needs. `url`: the reducer's address as the site sees it."""
        request = payload_of(rest.JoinRequest, url=url)
        return call(self._http, "POST", api_path("join-strings"), rest.JoinReply, payload=request)

    # Combiners and clients

    def add_combiner(
        self, *, name: str, host: str, port: int, max_clients: int, instance: str
    ) -> rest.RegistrationReply:
        """Registers a combiner, with its own token."""
        request = payload_of(
            rest.CombinerRegistration, name=name, host=host, port=port, max_clients=max_clients, instance=instance
        )
        return call(self._http, "POST", api_path("combiners"), rest.RegistrationReply, payload=request)

    def heartbeat(
        self,
        name: str,
        *,
        instance: str,
        attached_clients: int = 0,
        rounds: int = 0,
        rss_bytes: int = 0,
        cpu_s: float = 0.0,
        worker_groups: Sequence[rest.WorkerGroupReport] = (),
    ) -> rest.RegistrationReply:
        """Says that a combiner lives. NotFound (`no_such_combiner`): it must register again."""
        request = payload_of(
            rest.CombinerHeartbeat,
            instance=instance,
            attached_clients=attached_clients,
            rounds=rounds,
            rss_bytes=rss_bytes,
            cpu_s=cpu_s,
            worker_groups=tuple(worker_groups),
        )
        path = api_path("combiners", name, "heartbeat")
        return call(self._http, "POST", path, rest.RegistrationReply, payload=request)

    def combiners(self) -> list[rest.CombinerView]:
        return list(all_pages(self._http, api_path("combiners"), rest.CombinerPage))

    def combiner(self, name: str) -> rest.CombinerView:
        return call(self._http, "GET", api_path("combiners", name), rest.CombinerView)

    def remove_combiner(self, name: str) -> None:
        """Forgets a combiner and the key that its name is bound to."""
        self._http.json("DELETE", api_path("combiners", name))

    def assign(self, *, preferred: str = "", avoid: Sequence[str] = ()) -> rest.Assignment:
        """Where this client (by its token) shall attach, or why it must ask again."""
        request = payload_of(rest.AssignmentRequest, preferred=preferred, avoid=tuple(avoid))
        return call(self._http, "POST", api_path("assignments"), rest.Assignment, payload=request)

    def clients(self) -> list[rest.ClientView]:
        return list(all_pages(self._http, api_path("clients"), rest.ClientPage))

    def client(self, name: str) -> rest.ClientView:
        return call(self._http, "GET", api_path("clients", name), rest.ClientView)

    def remove_client(self, name: str) -> None:
        """Forgets the key that a client's name is bound to, so that another site may enrol with the name."""
        self._http.json("DELETE", api_path("clients", name))

    # Sessions and rounds

    def start_session(
        self, plan: SessionPlan | Mapping[str, Any] | None = None, name: str | None = None, *, key: str = ""
    ) -> rest.SessionView:
        """Starts a session and returns at once. Conflict (`session_running`) where one runs already.

        A plan that was made without `package_id` gets the active package; one with None there gets none.

        Args:
            key: names this request (Idempotency-Key); with the same key again, the session that it made is returned.
                By default a new one each time, so that only a connection that broke leads to a repetition.
        """
        if isinstance(plan, SessionPlan):
            plan = plan.model_dump(mode="json", by_alias=True, exclude_unset=True)
        request = payload_of(rest.SessionStart, name=name, plan=dict(plan or {}))
        key = key or uuid.uuid4().hex
        return call(self._http, "POST", api_path("sessions"), rest.SessionView, payload=request, key=key)

    def start_predictions(
        self, model_id: str | None = None, name: str | None = None, parameters: Mapping[str, Any] | None = None
    ) -> rest.SessionView:
        """Starts a session of one round in which clients predict with a model; None: the head of the trail."""
        plan = {"model_id": model_id, "parameters": dict(parameters or {})}
        request = payload_of(rest.SessionStart, name=name, kind="predict", plan=plan)
        key = uuid.uuid4().hex
        return call(self._http, "POST", api_path("sessions"), rest.SessionView, payload=request, key=key)

    def predictions(self, session: str) -> list[rest.PredictionView]:
        """Who predicted what in a session of kind predict."""
        return list(all_pages(self._http, api_path("sessions", session, "predictions"), rest.PredictionPage))

    def download_prediction(self, prediction: rest.PredictionView, target: Path) -> int:
        """Writes what a client predicted to a safetensors file, atomically and checked by its digest; its bytes."""
        path = api_path("sessions", prediction.session, "predictions", prediction.client, "download")
        with self._http.stream("GET", path) as answer:
            return save_stream(answer, target, prediction.object_id)

    def sessions(self) -> list[rest.SessionView]:
        return list(all_pages(self._http, api_path("sessions"), rest.SessionPage))

    def session(self, session: str) -> rest.SessionView:
        return call(self._http, "GET", api_path("sessions", session), rest.SessionView)

    def stop_session(self, session: str) -> rest.SessionView:
        """Stops a running session; the round that runs is given up, what was committed stays."""
        return call(self._http, "POST", api_path("sessions", session, "stop"), rest.SessionView)

    def resume_session(self, session: str) -> rest.SessionView:
        """Goes on with the rounds that a stopped or failed session has left."""
        return call(self._http, "POST", api_path("sessions", session, "resume"), rest.SessionView)

    def rounds(self, session: str) -> list[rest.RoundView]:
        return list(all_pages(self._http, api_path("sessions", session, "rounds"), rest.RoundPage))

    def round(self, session: str, index: int) -> rest.RoundView:
        """One round (index from 0) with its ledger."""
        return call(self._http, "GET", api_path("sessions", session, "rounds", str(index)), rest.RoundView)

    def accounting(self, session: str) -> rest.Accounting:
        """What a session took: traffic and compute time, in all, by round and by client."""
        return call(self._http, "GET", api_path("sessions", session, "accounting"), rest.Accounting)

    def statistics(self, session: str) -> rest.SessionStatistics:
        """Where a session's time went: by round, client and model."""
        return call(self._http, "GET", api_path("sessions", session, "statistics"), rest.SessionStatistics)

    def round_statistics(self, session: str, index: int) -> rest.RoundStatistics:
        """Where the time of one round (index from 0) went: by client and combiner."""
        path = api_path("sessions", session, "rounds", str(index), "statistics")
        return call(self._http, "GET", path, rest.RoundStatistics)

    def validations(self, session: str | None = None) -> list[ValidationRecord]:
        """What the clients measured of the global models; of one session, or of all."""
        path = api_path("validations") if session is None else api_path("sessions", session, "validations")
        return list(all_pages(self._http, path, rest.ValidationPage))

    # Models and the trail

    def models(self) -> list[rest.ModelView]:
        return list(all_pages(self._http, api_path("models"), rest.ModelPage))

    def model(self, model_id: str) -> rest.ModelView:
        return call(self._http, "GET", api_path("models", model_id), rest.ModelView)

    def download_model(
        self, model_id: str, target: Path, *, format: Literal["safetensors", "npz"] = "safetensors"
    ) -> int:
        """Writes a model to a file, atomically, and returns its bytes. The bytes of a safetensors file must have the
        digest that its id is: IntegrityError (`digest_mismatch`) otherwise, and no file."""
        digest = model_id if format == "safetensors" else None
        path = api_path("models", model_id, "download")
        with self._http.stream("GET", path, query={"format": format}) as answer:
            return save_stream(answer, target, digest)

    def seed(self, file: Path) -> rest.ModelView:
        """Uploads a seed model, a safetensors or npz file. Conflict where the trail refuses it."""
        with file.open("rb") as stream:
            return call(self._http, "POST", api_path("models"), rest.ModelView, body=stream)

    def trail(self, start: int = 0, limit: int = rest.MAX_PAGE) -> rest.TrailPage:
        """Entries of the trail from index `start` on, `limit` at the most."""
        return call(self._http, "GET", api_path("trail"), rest.TrailPage, query={"offset": start, "limit": limit})

    def trail_entries(self, start: int = 0) -> Iterator[TrailEntry]:
        """Every entry of the trail from index `start` on."""
        while True:
            page = self.trail(start)
            yield from page.items
            start += len(page.items)
            if not page.items or start >= page.total:
                return

    def trail_key(self) -> rest.TrailKey:
        """The public key whose signatures the trail bears."""
        return call(self._http, "GET", api_path("trail", "key"), rest.TrailKey)

    def verify_trail(self, head: str | None = None) -> rest.TrailVerification:
        """Lets the reducer check the whole trail. `head`: hash of an entry seen earlier, which must be there still.

        Raises:
            IntegrityError: (`trail_broken`, `trail_cut`) names the first entry that does not fit.
        """
        return call(self._http, "GET", api_path("trail", "verify"), rest.TrailVerification, query={"head": head})

    # Packages, store, status

    def packages(self) -> list[rest.PackageView]:
        return list(all_pages(self._http, api_path("packages"), rest.PackagePage))

    def upload_package(self, data: bytes) -> rest.PackageView:
        """Uploads a compute package (tar.gz) and makes it the active one."""
        path = api_path("packages")
        return call(self._http, "POST", path, rest.PackageView, body=data, content_type="application/gzip")

    def download_package(self, package_id: str, target: Path) -> int:
        """Writes a package to a file, atomically and checked by its digest, and returns its bytes."""
        with self._http.stream("GET", api_path("packages", package_id, "download")) as answer:
            return save_stream(answer, target, package_id)

    def activate_package(self, package_id: str | None) -> None:
        """Makes a package the active one; None: clients bring their own Learner."""
        request = payload_of(rest.PackageActivation, package_id=package_id)
        self._http.json("PUT", api_path("packages", "active"), payload=rest.as_json(request))

    def collect_garbage(self, *, older_than_s: float = 86400.0, dry_run: bool = False) -> rest.GcReply:
        """Removes objects of the model store that nothing names and that are older than `older_than_s` seconds."""
        request = payload_of(rest.GcRequest, older_than_s=older_than_s, dry_run=dry_run)
        return call(self._http, "POST", api_path("store", "gc"), rest.GcReply, payload=request)

    def status(self) -> rest.StatusView:
        return call(self._http, "GET", api_path("status"), rest.StatusView)

    def events(self, after: int = 0, limit: int = rest.MAX_PAGE) -> rest.EventList:
        """Events with a number greater than `after` that have happened already."""
        return call(self._http, "GET", api_path("events"), rest.EventList, query={"after": after, "limit": limit})

    def watch(self, after: int = 0, *, patience_s: float = 60.0) -> Iterator[rest.EventView]:
        """Events with a number greater than `after`, as they happen, for ever.

        A reducer that is away for less than `patience_s` seconds is waited for, and nothing is lost.
        """
        return watch_events(self._http, after, patience_s=patience_s)

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document of the API."""
        document: dict[str, Any] = self._http.json("GET", api_path("openapi.json"))
        return document
