"""The network as a picture: the reducer, its combiners, their clients, each with its state."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flask import Blueprint

from fedn.protocol.rest import ClientView, CombinerView
from fedn.protocol.rounds import LedgerState
from fedn.reducer.pages import topics
from fedn.reducer.pages.clients import MOST_CLIENTS, shown_round
from fedn.reducer.pages.render import Page, page
from fedn.reducer.pages.serve import shows
from fedn.reducer.rest import joining, status
from fedn.reducer.rest.answers import arguments
from fedn.reducer.services import services

blueprint = Blueprint("network", __name__)

WIDTH = 960
_ROW = 46
_X = {"reducer": 70, "combiner": 390, "client": 740}
_SHOWN_CLIENTS = 16
"""Of one combiner; the others are counted in one node."""


@dataclass(frozen=True)
class Node:
    kind: str
    name: str
    state: str
    """What its mark stands for."""
    x: float
    y: float
    title: str
    """What a pointer that rests on it is told."""
    sub: str = ""
    link: str = ""


@dataclass(frozen=True)
class Link:
    start: Node
    end: Node
    tone: str

    @property
    def path(self) -> str:
        """A curve that leaves and arrives level."""
        middle = (self.start.x + self.end.x) / 2
        return f"M{self.start.x} {self.start.y}C{middle} {self.start.y} {middle} {self.end.y} {self.end.x} {self.end.y}"


@dataclass(frozen=True)
class Picture:
    height: int
    nodes: tuple[Node, ...]
    links: tuple[Link, ...]


@shows(blueprint, "/network", topics.CLIENTS, topics.COMBINERS, topics.ROUNDS, topics.SESSIONS, topics.VITALS)
def network() -> Page:
    arguments()
    parts = services()
    combiners = [record.view() for record in parts.registry.combiners()]
    clients = joining.client_views(MOST_CLIENTS)
    running = parts.sessions.running()
    rounds = [] if running is None else parts.watching.history.rounds(running.id)
    shown = shown_round(rounds)
    busy = {} if shown is None else {entry.client: entry.state for entry in shown.ledger}
    now = status.status_view()
    return page(
        "network.html",
        status=now,
        combiners=combiners,
        by_combiner=_by_combiner(clients),
        busy=busy,
        picture=picture(now.federation, combiners, clients, busy),
        width=WIDTH,
        enrolled=joining.count_clients(),
        looked_at=MOST_CLIENTS,
        vitals=parts.watching.vitals,
        shown_clients=_SHOWN_CLIENTS,
    )


def _by_combiner(clients: Sequence[ClientView]) -> dict[str, list[ClientView]]:
    """Combiner to its clients; those that are away under the empty name."""
    found: dict[str, list[ClientView]] = {}
    for client in clients:
        found.setdefault(client.combiner if client.attached else "", []).append(client)
    return found


def combiner_state(view: CombinerView) -> str:
    if not view.alive:
        return "silent"
    return "alive" if view.linked else "not_linked"


def picture(
    federation: str,
    combiners: Sequence[CombinerView],
    clients: Sequence[ClientView],
    busy: Mapping[str, LedgerState],
) -> Picture:
    """The nodes of a tree from left to right, and what joins them: the same things are always at the same places."""
    groups = _by_combiner(clients)
    names = [view.name for view in combiners]
    away = groups.pop("", [])
    nodes, links, y = [], [], float(_ROW)
    anchors: list[Node] = []
    for view in combiners:
        shown = _leaves(groups.get(view.name, []), busy, y)
        y += _ROW * max(1, len(shown))
        middle = (shown[0].y + shown[-1].y) / 2 if shown else y - _ROW
        state = combiner_state(view)
        words = f"{view.attached_clients} of {view.max_clients} clients"
        title = f"Combiner {view.name}: {state.replace('_', ' ')}, {view.host}:{view.port}, {words}"
        anchor = Node("combiner", view.name, state, _X["combiner"], middle, title, words)
        anchors.append(anchor)
        nodes += [anchor, *shown]
        links += [Link(anchor, leaf, "busy" if leaf.state in {"training", "uploading"} else "ok") for leaf in shown]
        y += _ROW * 0.35
    lost = [client for client in clients if client.attached and client.combiner not in names]
    for leaf in _leaves([*away, *lost], {}, y):
        nodes.append(leaf)
        y = leaf.y + _ROW
    centre = (anchors[0].y + anchors[-1].y) / 2 if anchors else float(_ROW)
    top = Node("reducer", "reducer", "alive", _X["reducer"], centre, f"Reducer of {federation}", federation)
    links = [Link(top, anchor, "ok" if anchor.state == "alive" else "bad") for anchor in anchors] + links
    return Picture(int(max(y, 2 * _ROW)), (top, *nodes), tuple(links))


def _leaves(clients: Sequence[ClientView], busy: Mapping[str, LedgerState], y: float) -> list[Node]:
    leaves = []
    for client in clients[:_SHOWN_CLIENTS]:
        state = str(busy.get(client.name, "attached")) if client.attached else "away"
        words = state.replace("_", " ")
        title = f"Client {client.name}: {words}"
        leaves.append(Node("client", client.name, state, _X["client"], y, title, words, client.name))
        y += _ROW
    if len(clients) > _SHOWN_CLIENTS:
        more = len(clients) - _SHOWN_CLIENTS
        state = "attached" if clients[0].attached else "away"
        leaves.append(Node("more", f"{more} more clients", state, _X["client"], y, f"{more} more clients, {state}"))
    return leaves
