import time
from collections import Counter
from dataclasses import dataclass

import pytest

from fedn.protocol.tasks import TaskKind
from fedn.reducer.assignment import Assigner, Refusal
from fedn.reducer.engine.roster import AttachedClient, Roster
from fedn.reducer.registry import CombinerRecord


@dataclass(frozen=True)
class Place:
    client: str
    combiner: str


class Fixed:
    """A registry of given combiners."""

    def __init__(self, *records: CombinerRecord) -> None:
        self._records = list(records)
        self.places: dict[str, str] = {}

    def place_of(self, client: str) -> str | None:
        return self.places.get(client)

    def combiners(self) -> list[CombinerRecord]:
        return self._records


def combiner(name: str, max_clients: int = 10, *, alive: bool = True, linked: bool = True, attached: int = 0):  # type: ignore[no-untyped-def]
    return CombinerRecord(name, "h", 1, "i", max_clients, 0.0, 0.0, alive=alive, linked=linked, attached=attached)


def roster(places: list[Place] | None = None) -> Roster:
    """With those clients attached."""
    made = Roster(lambda kind, **fields: None)
    for place in places or []:
        made.attach(attached(place.client, place.combiner))
    return made


def attached(client: str, combiner: str) -> AttachedClient:
    return AttachedClient(client, combiner, frozenset({TaskKind.TRAIN}), {}, time.time())


def assigner(*records: CombinerRecord, places: list[Place] | None = None, clock: float = 0.0) -> Assigner:
    return Assigner(Fixed(*records), roster(places), clock=lambda: clock)  # type: ignore[arg-type]


def clients(combiner_name: str, count: int) -> list[Place]:
    return [Place(f"{combiner_name}-{index}", combiner_name) for index in range(count)]


def name_of(found: CombinerRecord | Refusal) -> str:
    assert isinstance(found, CombinerRecord), found
    return found.name


def code_of(found: CombinerRecord | Refusal) -> str:
    assert isinstance(found, Refusal), found
    assert found.reason and found.retry_after_s > 0
    return found.code


def test_the_combiner_with_the_smallest_part_taken_is_chosen() -> None:
    # 9 of 10 against 10 of 100: neither the count nor its text decides.
    small, large = combiner("small", 10), combiner("large", 100)
    assert name_of(assigner(small, large, places=clients("small", 9) + clients("large", 10)).assign("new")) == "large"


def test_clients_that_come_at_once_are_spread() -> None:
    spread = assigner(combiner("a"), combiner("b"), combiner("c", 20))
    found = Counter(name_of(spread.assign(f"client-{index}")) for index in range(40))
    assert found == {"a": 10, "b": 10, "c": 20}
    assert code_of(spread.assign("one more")) == "combiners_full"


def test_a_place_that_was_promised_is_given_back_when_nobody_comes() -> None:
    now = [0.0]
    one = Assigner(Fixed(combiner("a", 1)), roster(), clock=lambda: now[0])  # type: ignore[arg-type]
    one.assign("lost on its way")
    assert code_of(one.assign("other")) == "combiners_full"
    now[0] = 60.0
    assert name_of(one.assign("other")) == "a"


def test_a_client_does_not_compete_with_itself() -> None:
    full = assigner(combiner("a", 1), places=[Place("me", "a")])
    assert name_of(full.assign("me")) == "a"
    assert code_of(full.assign("other")) == "combiners_full"


def test_looking_promises_nothing() -> None:
    one = assigner(combiner("a", 1))
    one.assign("looks", promise=False)
    assert name_of(one.assign("comes")) == "a"


def test_the_preferred_combiner_is_taken_even_when_it_is_fuller() -> None:
    places = clients("b", 9)
    assert name_of(assigner(combiner("a"), combiner("b"), places=places).assign("me", preferred="b")) == "b"


@pytest.mark.parametrize(
    ("preferred", "code"),
    [("unknown", "preferred_unknown"), ("dead", "preferred_dead"), ("full", "preferred_full")],
)
def test_a_preferred_combiner_that_cannot_be_had_is_a_reason(preferred: str, code: str) -> None:
    known = assigner(combiner("dead", alive=False), combiner("full", 1), combiner("free"), places=clients("full", 1))
    assert code_of(known.assign("me", preferred=preferred)) == code
    assert name_of(known.assign("me", preferred=preferred, avoid=[preferred])) == "free"


def test_the_place_that_a_session_fixed_weighs_most_while_it_lives() -> None:
    registry = Fixed(combiner("a"), combiner("b"), combiner("dead", alive=False))
    registry.places = {"me": "b", "other": "dead"}
    fixed = Assigner(registry, roster(clients("b", 5)))  # type: ignore[arg-type]
    assert name_of(fixed.assign("me", preferred="a", avoid=["b"])) == "b"
    assert name_of(fixed.assign("other")) == "a"


def test_a_combiner_to_avoid_is_the_last_resort() -> None:
    both = assigner(combiner("a"), combiner("b"), places=clients("b", 9))
    assert name_of(both.assign("me", avoid=["a"])) == "b"
    assert name_of(assigner(combiner("a")).assign("me", avoid=["a"])) == "a"


def test_without_a_living_combiner_the_client_asks_again() -> None:
    assert code_of(assigner(combiner("a", alive=False)).assign("me")) == "no_combiner"


def test_without_a_link_the_heartbeat_says_how_full_a_combiner_is() -> None:
    assert code_of(assigner(combiner("a", 5, linked=False, attached=5)).assign("me")) == "combiners_full"


def test_a_client_that_came_takes_one_place_not_two() -> None:
    places = roster()
    one = Assigner(Fixed(combiner("a", 2)), places, clock=lambda: 0.0)  # type: ignore[arg-type]
    one.assign("first")
    places.attach(attached("first", "a"))
    assert name_of(one.assign("second")) == "a"
    assert code_of(one.assign("third")) == "combiners_full"
    places.detach("first", "a", "left")
    assert name_of(one.assign("third")) == "a"


def test_a_client_that_is_sent_elsewhere_gives_its_promised_place_back() -> None:
    one = assigner(combiner("a", 1), combiner("b", 1))
    assert name_of(one.assign("me")) == "a"
    assert name_of(one.assign("me", avoid=["a"])) == "b"
    assert name_of(one.assign("other")) == "a"


def test_a_question_costs_the_same_however_many_are_attached() -> None:
    class Watched(Roster):
        """Counts who looks at every client."""

        looks = 0

        def snapshot(self) -> list[AttachedClient]:
            self.looks += 1
            return super().snapshot()

    places = Watched(lambda kind, **fields: None)
    many = Assigner(Fixed(combiner("a", 5000), combiner("b", 5000)), places, clock=lambda: 0.0)  # type: ignore[arg-type]
    for index in range(2000):
        found = name_of(many.assign(f"c-{index}"))
        places.attach(attached(f"c-{index}", found))
    assert dict(places.counts()) == {"a": 1000, "b": 1000}
    assert places.looks == 0
    assert not many._promised
