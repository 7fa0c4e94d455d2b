"""What rules have in common whose models servers can read: how updates and combiner models look, and their mean."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from fedn.aggregation.combine import FromBase, MeanLayout, combine_pieces, mean_layout
from fedn.models.digest import Buffer
from fedn.models.encrypted import is_encrypted
from fedn.models.pieces import Pieces
from fedn.models.wire import ModelSpec
from fedn.protocol.errors import InvalidInput
from fedn.protocol.tasks import Encryption


class PlainModels:
    """See the module, and `fedn.aggregation.base.Rule`."""

    name: str
    encrypts = False

    def encryption(self, scaling_factor: str, scaling_options: Mapping[str, Any]) -> Encryption | None:
        return None

    def update_spec(self, base: ModelSpec) -> ModelSpec:
        if is_encrypted(base):
            raise InvalidInput(
                "model_is_encrypted",
                f"the rule {self.name} works on values, and those of the encrypted model cannot be read here",
                fix="Choose the rule secagg with the model's key, or start from a model that is not encrypted.",
                where={"field": "rule"},
            )
        return base

    def model_layout(self, base: ModelSpec) -> MeanLayout:
        return mean_layout(self.update_spec(base))

    def combine_models(
        self,
        models: Sequence[tuple[Buffer | Pieces, float]],
        base: ModelSpec,
        mean: Literal["weighted", "plain"] = "weighted",
        sum_dtype: str = "float64",
        from_base: FromBase | None = None,
    ) -> Iterator[memoryview]:
        return combine_pieces(models, base, mean, sum_dtype, from_base)
