"""SCAFFOLD over two tiers equals Algorithm 1 of its paper, however clients are spread, sampled, and lost."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fedn.aggregation.combine import combine
from fedn.aggregation.extra import ExtraSums, advance_extra, extra_specs, fresh_extras
from fedn.aggregation.scaffold import Scaffold
from fedn.client.scaffold import EXTRA, KeptVariates
from fedn.client.scaffold import Scaffold as AtClient
from fedn.models.pieces import Pieces
from fedn.models.wire import decode, encode, read_spec
from fedn.protocol.tasks import UpdateMetadata
from tests.support.sums import whole_result

SIZE, STEPS, RATE = 3, 4, 0.05
CLIENTS = 5


class Flat:
    """Algorithm 1 (option II, global step size 1), in float64, over all clients at once."""

    def __init__(self, curvatures: np.ndarray, minima: np.ndarray) -> None:
        self.curvatures, self.minima = curvatures, minima
        self.x = np.zeros(SIZE)
        self.c = np.zeros(SIZE)
        self.own = np.zeros((CLIENTS, SIZE))

    def round(self, asked: list[int], counted: list[int]) -> None:
        ends, changes = [], []
        for client in asked:
            y = self.x.copy()
            for _ in range(STEPS):
                gradient = self.curvatures[client] * (y - self.minima[client])
                y -= RATE * (gradient - self.own[client] + self.c)
            if client in counted:
                ends.append(y)
                after = self.own[client] - self.c + (self.x - y) / (STEPS * RATE)
                changes.append(after - self.own[client])
                self.own[client] = after
        self.x = np.mean(ends, axis=0)
        self.c = self.c + len(counted) / CLIENTS * np.mean(changes, axis=0)


class TwoTiers:
    """The same with our parts: clients that keep files, a sum for each combiner, the reducer's mean."""

    def __init__(self, curvatures: np.ndarray, minima: np.ndarray, folder: Path) -> None:
        self.curvatures, self.minima, self.folder = curvatures, minima, folder
        self.rule = Scaffold()
        self.model = bytes(encode({"w": np.zeros(SIZE), "n": np.zeros(2, np.int64)}))
        self.base = read_spec(self.model)
        self.state = fresh_extras(self.rule, self.base)[EXTRA]
        self.last: dict[int, int] = {}

    def train(self, client: int, index: int) -> tuple[bytes, bytes]:
        weights = decode(self.model)
        kept = KeptVariates(self.folder / str(client), "s", index, self.last.get(client))
        scaffold = AtClient({"w": weights["w"]}, decode(self.state), kept)
        y = weights["w"].copy()
        for _ in range(STEPS):
            y -= RATE * (self.curvatures[client] * (y - self.minima[client]) + scaffold.gradients()[0])
        extra = scaffold.finish({"w": y}, num_steps=STEPS, learning_rate=RATE)
        return bytes(encode({"w": y, "n": weights["n"]})), bytes(encode(extra[EXTRA]))

    def round(self, index: int, asked: list[int], counted: list[int], places: list[int]) -> None:
        sums = {place: self.rule.start(self.base) for place in places}
        extras = {place: ExtraSums(extra_specs(self.rule, self.base)) for place in places}
        for client in asked:
            update, change = self.train(client, index)
            if client in counted:
                share = self.rule.share_of(UpdateMetadata.model_construct())
                sums[places[client]].add(update, read_spec(update), 1.0, share=share)
                extras[places[client]].add({EXTRA: Pieces.of(change)})
                self.last[client] = index
        there = [place for place in sums if sums[place].count]
        model = combine([(whole_result(sums[place]), sums[place].weight) for place in there], self.base)
        means = [(extras[place].means()[0], sums[place].count) for place in there]
        self.state = advance_extra(self.rule.extras[0], self.base, self.state, means, CLIENTS)
        self.model = bytes(model)


rounds = st.lists(
    st.tuples(
        st.sets(st.integers(0, CLIENTS - 1), min_size=1).map(sorted),
        st.lists(st.integers(0, 2), min_size=CLIENTS, max_size=CLIENTS),
        st.integers(0, 2**16),
    ),
    min_size=1,
    max_size=5,
)


@settings(max_examples=40, deadline=None)
@given(rounds, st.integers(0, 2**32 - 1))
def test_two_tiers_equal_the_flat_algorithm(given_rounds: list[tuple[list[int], list[int], int]], seed: int) -> None:
    random = np.random.default_rng(seed)
    curvatures, minima = random.uniform(0.5, 3, CLIENTS), random.normal(0, 5, (CLIENTS, SIZE))
    with TemporaryDirectory() as folder:
        flat, tiers = Flat(curvatures, minima), TwoTiers(curvatures, minima, Path(folder))
        for index, (asked, places, lost) in enumerate(given_rounds):
            counted = [client for client in asked if not lost >> client & 1] or asked[:1]
            flat.round(asked, counted)
            tiers.round(index, asked, counted, places)
            np.testing.assert_allclose(decode(tiers.model)["w"], flat.x, rtol=1e-9, atol=1e-9)
            np.testing.assert_allclose(decode(tiers.state)["w"], flat.c, rtol=1e-9, atol=1e-9)
        # What only Δcᵢ that count can bring about: c is the mean of the clients' cᵢ.
        np.testing.assert_allclose(flat.c, flat.own.mean(axis=0), rtol=1e-9, atol=1e-9)
