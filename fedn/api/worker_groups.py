"""Worker groups at the reducer. For `APIClient` to inherit."""

from collections.abc import Sequence

from fedn.api.replies import all_pages, api_path, call, payload_of
from fedn.api.transport import Transport
from fedn.protocol import rest


class WorkerGroupCalls:
    """See the module."""

    _http: Transport

    def create_worker_group(self, name: str, size: int, clients: Sequence[str] = ()) -> rest.WorkerGroupView:
        """Makes a group of `size` workers. Conflict (`worker_group_exists`) where there is one of this name.

        Args:
            clients: names whose tokens open it, with `*` for any characters; empty: every client.
        """
        request = payload_of(rest.WorkerGroupRequest, name=name, size=size, clients=tuple(clients))
        return call(self._http, "POST", api_path("worker-groups"), rest.WorkerGroupView, payload=request)

    def worker_groups(self) -> list[rest.WorkerGroupView]:
        return list(all_pages(self._http, api_path("worker-groups"), rest.WorkerGroupPage))

    def worker_group(self, name: str) -> rest.WorkerGroupView:
        return call(self._http, "GET", api_path("worker-groups", name), rest.WorkerGroupView)

    def delete_worker_group(self, name: str) -> None:
        """Forgets a group and its ranks; workers that are attached go on."""
        self._http.json("DELETE", api_path("worker-groups", name))

    def join_worker_group(
        self, name: str, rank: int | None = None, *, combiner: str = "", avoid: Sequence[str] = ()
    ) -> rest.WorkerAssignment:
        """A place in a group for the client whose token this is, or why it must ask again.

        Args:
            rank: None: the one that it has, or the next free one.
            combiner: where it would attach; empty: at the group's home.
            avoid: combiners that it tried just now in vain.
        """
        request = payload_of(rest.WorkerJoin, rank=rank, combiner=combiner, avoid=tuple(avoid))
        path = api_path("worker-groups", name, "members")
        return call(self._http, "POST", path, rest.WorkerAssignment, payload=request)

    def relay_token(self, group: str, ticket: str) -> rest.RelayTokenReply:
        """For the combiner whose token this is: a token to hand on the stream of the worker with this ticket."""
        path = api_path("worker-groups", group, "relay-tokens")
        request = payload_of(rest.RelayTokenRequest, ticket=ticket)
        return call(self._http, "POST", path, rest.RelayTokenReply, payload=request)

    def ask_detour(self, group: str, ticket: str, *, call: str, reason: str) -> None:
        """Lets the reducer fetch a worker's stream from the combiner whose token this is, and bring it to the home.

        Args:
            call: names the stream when the reducer comes for it.
            reason: why that combiner does not reach the home.
        """
        request = payload_of(rest.DetourRequest, ticket=ticket, call=call, reason=reason)
        self._http.json("POST", api_path("worker-groups", group, "detours"), payload=rest.as_json(request))
