"""Names of FEDn's own SDK, for scripts that come from there: each does what a method of `APIClient` does.

Answers are typed payloads (`fedn.protocol.rest`), not dictionaries. docs/reference/rest.md has the table.
"""

from pathlib import Path
from typing import Protocol

from fedn.protocol import rest
from fedn.protocol.errors import NotFound
from fedn.protocol.trail import ValidationRecord


class Calls(Protocol):
    """What the names stand for; `APIClient` has it."""

    def clients(self) -> list[rest.ClientView]: ...
    def client(self, name: str) -> rest.ClientView: ...
    def combiners(self) -> list[rest.CombinerView]: ...
    def combiner(self, name: str) -> rest.CombinerView: ...
    def models(self) -> list[rest.ModelView]: ...
    def model(self, model_id: str) -> rest.ModelView: ...
    def seed(self, file: Path) -> rest.ModelView: ...
    def packages(self) -> list[rest.PackageView]: ...
    def upload_package(self, data: bytes) -> rest.PackageView: ...
    def sessions(self) -> list[rest.SessionView]: ...
    def session(self, session: str) -> rest.SessionView: ...
    def resume_session(self, session: str) -> rest.SessionView: ...
    def rounds(self, session: str) -> list[rest.RoundView]: ...
    def round(self, session: str, index: int) -> rest.RoundView: ...
    def validations(self, session: str | None = None) -> list[ValidationRecord]: ...
    def predictions(self, session: str) -> list[rest.PredictionView]: ...
    def status(self) -> rest.StatusView: ...


class FednNames:
    """See the module. For `APIClient` to inherit."""

    def get_clients(self: Calls) -> list[rest.ClientView]:
        return self.clients()

    def get_clients_count(self: Calls) -> int:
        return self.status().clients

    def get_active_clients(self: Calls, combiner: str | None = None) -> list[rest.ClientView]:
        """Those with an open stream; to one combiner, or to any."""
        return [view for view in self.clients() if view.attached and combiner in {None, view.combiner}]

    def get_client(self: Calls, name: str) -> rest.ClientView:
        return self.client(name)

    def get_combiners(self: Calls) -> list[rest.CombinerView]:
        return self.combiners()

    def get_combiners_count(self: Calls) -> int:
        return self.status().combiners

    def get_combiner(self: Calls, name: str) -> rest.CombinerView:
        return self.combiner(name)

    def get_controller_status(self: Calls) -> rest.StatusView:
        return self.status()

    def get_models(self: Calls) -> list[rest.ModelView]:
        """The latest first."""
        return self.models()

    def get_models_count(self: Calls) -> int:
        return self.status().trail_length

    def get_model(self: Calls, model_id: str) -> rest.ModelView:
        return self.model(model_id)

    def get_active_model(self: Calls) -> rest.ModelView:
        """The head of the trail. NotFound (`no_model`) where there is none."""
        head = self.status().model_id
        if not head:
            raise NotFound("no_model", "there is no global model yet", fix="Upload a seed: fedn model seed FILE.")
        return self.model(head)

    def get_model_trail(self: Calls) -> list[rest.ModelView]:
        """The oldest first."""
        return sorted(self.models(), key=lambda view: view.index)

    def set_active_model(self: Calls, path: str | Path) -> rest.ModelView:
        """Uploads a seed model."""
        return self.seed(Path(path))

    def get_packages(self: Calls) -> list[rest.PackageView]:
        return self.packages()

    def get_packages_count(self: Calls) -> int:
        return len(self.packages())

    def get_active_package(self: Calls) -> rest.PackageView | None:
        return next((view for view in self.packages() if view.active), None)

    def set_active_package(self: Calls, path: str | Path) -> rest.PackageView:
        """Uploads a compute package (tar.gz) and makes it the active one."""
        return self.upload_package(Path(path).read_bytes())

    def get_sessions(self: Calls) -> list[rest.SessionView]:
        """The latest first."""
        return self.sessions()

    def get_sessions_count(self: Calls) -> int:
        return len(self.sessions())

    def get_session(self: Calls, session: str) -> rest.SessionView:
        return self.session(session)

    def get_session_status(self: Calls, session: str) -> str:
        return self.session(session).state

    def session_is_finished(self: Calls, session: str) -> bool:
        return self.session(session).state == "finished"

    def continue_session(self: Calls, session: str) -> rest.SessionView:
        """Goes on with the rounds that a stopped or failed session has left."""
        return self.resume_session(session)

    def get_rounds(self: Calls, session: str) -> list[rest.RoundView]:
        return self.rounds(session)

    def get_rounds_count(self: Calls, session: str) -> int:
        return len(self.rounds(session))

    def get_round(self: Calls, session: str, index: int) -> rest.RoundView:
        return self.round(session, index)

    def get_validations(self: Calls, session: str | None = None) -> list[ValidationRecord]:
        return self.validations(session)

    def get_validations_count(self: Calls, session: str | None = None) -> int:
        return len(self.validations(session))

    def get_predictions(self: Calls, session: str) -> list[rest.PredictionView]:
        return self.predictions(session)
