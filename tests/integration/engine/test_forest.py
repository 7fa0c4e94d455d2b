"""The rule forest over real tiers: trees of clients at several combiners become one model; a hostile one is refused."""

import asyncio

import numpy as np

from fedn.models.forest import ForestShape, Tree, pack, read_forest
from fedn.models.wire import encode
from tests.support.stage import Site, stage

SHAPE = ForestShape(max_trees=9, max_nodes=40, num_features=2, classes=(0.0, 1.0))


def stump(share: float) -> Tree:
    """One split, which goes by the second feature."""
    return Tree(
        {
            "left": np.array([1, -1, -1], np.int32),
            "right": np.array([2, -1, -1], np.int32),
            "feature": np.array([1, -2, -2], np.int32),
            "threshold": np.array([0.1, -2.0, -2.0]),
            "missing_left": np.zeros(3, np.bool_),
            "value": np.array([[0.5, 0.5], [share, 1 - share], [1 - share, share]], np.float32),
            "impurity": np.zeros(3, np.float32),
            "samples": np.array([4, 2, 2], np.int32),
            "weight": np.array([4, 2, 2], np.float32),
        }
    )


class Grows(Site):
    """A site that returns a tree that tells whose it is."""

    async def _answer(self, task):
        tensors = pack([stump(self.step)], SHAPE)
        if self.step > 1:
            tensors["left"][0] = 0
        await self.wire.answer(task, bytes(encode(tensors)), num_examples=self.examples)


def test_trees_of_all_combiners_become_one_forest_and_a_hostile_one_none_of_it(tmp_path):
    async def scenario():
        async with stage(tmp_path, seeded=False) as scene:
            await asyncio.to_thread(scene.tier1.catalog.add_seed, bytes(encode(pack([], SHAPE))))
            for name in ("c1", "c2"):
                await scene.combiner(name)
            for name, combiner, step in (("a", "c1", 0.25), ("b", "c2", 0.5), ("c", "c2", 0.75), ("d", "c1", 2.0)):
                (await scene.site(name, combiner, step=step)).__class__ = Grows
            await scene.attached(4)
            view = await scene.run(rounds=2, clients_required=3, rule="forest", validate=False)
            assert (view.state, view.rounds_done) == ("finished", 2), view.error
            trees = read_forest(scene.global_model(), SHAPE)
            found = [float(tree.nodes["value"][1, 0]) for tree in trees]
            assert sorted(found[:3]) == sorted(found[3:]) == [0.25, 0.5, 0.75]
            np.testing.assert_array_equal(trees[0].nodes["threshold"], stump(0).nodes["threshold"])
            reason = next(e.reason for e in scene.tier1.sessions.round(view.id, 1).ledger if e.client == "d")
            assert reason.code == "bad_forest" and "no later node" in reason.message

    asyncio.run(scenario())
