from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fedn.models.helpers.registry import get_helper
from fedn.models.wire import DTYPES, decode, encode
from fedn.protocol.errors import InvalidInput
from tests.support.models import assert_same_model

pytestmark = pytest.mark.frameworks

HELPER = get_helper("pytorch")


class Tied(nn.Module):
    """An embedding whose weight is the output layer's too."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 3)
        self.out = nn.Linear(3, 7, bias=False)
        self.out.weight = self.embedding.weight
        self.register_buffer("steps", torch.tensor(5))
        self.register_buffer("flags", torch.tensor([True, False]))


def convolutional(width: int) -> nn.Module:
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(1, width, 3), norm=nn.BatchNorm2d(width), flat=nn.Flatten(), out=nn.Linear(width * 4, 2)
        )
    )


MAKERS: list[Any] = [
    lambda width: convolutional(width),
    lambda width: nn.LSTM(width, 2),
    lambda width: nn.TransformerEncoderLayer(2 * width, 2, 5),
    lambda width: nn.Linear(width, 2).to(torch.bfloat16),
    lambda width: nn.Linear(width, 2).half(),
    lambda width: nn.Linear(width, 2).double(),
    lambda width: Tied(),
    lambda width: nn.utils.parametrizations.weight_norm(nn.Linear(width, 2)),
    lambda width: nn.Conv2d(3, width, 3).to(memory_format=torch.channels_last),
]


@pytest.mark.parametrize("make", MAKERS)
@settings(max_examples=5, deadline=None)
@given(width=st.integers(1, 4), seed=st.integers(0, 2**31))
def test_weights_go_from_one_module_to_another(make: Any, width: int, seed: int) -> None:
    torch.manual_seed(seed)
    source, target = make(width), make(width)
    tensors = decode(encode(HELPER.get_weights(source)))
    assert list(tensors) == list(source.state_dict())
    HELPER.set_weights(target, tensors)
    assert_same_model(HELPER.get_weights(target), tensors)
    for name, tensor in target.state_dict().items():
        assert torch.equal(tensor, source.state_dict()[name])


def test_batch_norm_buffers_travel_and_outputs_are_equal() -> None:
    source, target = convolutional(3), convolutional(3)
    images = torch.randn(8, 1, 4, 4)
    source(images)
    tensors = HELPER.get_weights(source)
    assert tensors["norm.num_batches_tracked"].dtype == np.int64
    assert tensors["norm.num_batches_tracked"].shape == ()
    assert tensors["norm.num_batches_tracked"] == 1
    HELPER.set_weights(target, tensors)
    assert torch.equal(source.eval()(images), target.eval()(images))


def test_bfloat16_keeps_every_bit() -> None:
    module = nn.Linear(3, 2).to(torch.bfloat16)
    weight = HELPER.get_weights(module)["weight"]
    assert weight.dtype == DTYPES["BF16"]
    np.testing.assert_array_equal(weight.astype(np.float32), module.weight.detach().float().numpy())


def test_tied_tensors_stay_one_and_must_agree() -> None:
    module = Tied()
    tensors = HELPER.get_weights(module)
    tensors["embedding.weight"] += 1
    with pytest.raises(InvalidInput, match=r"'embedding.weight' and 'out.weight'"):
        HELPER.set_weights(module, tensors)
    tensors["out.weight"] += 1
    HELPER.set_weights(module, tensors)
    assert module.out.weight is module.embedding.weight
    np.testing.assert_array_equal(module.out.weight.detach().numpy(), tensors["out.weight"])


def test_weights_are_copies_both_ways() -> None:
    module = nn.Linear(2, 2)
    tensors = HELPER.get_weights(module)
    before = {name: array.copy() for name, array in tensors.items()}
    with torch.no_grad():
        module.weight += 1
    assert_same_model(tensors, before)
    HELPER.set_weights(module, tensors)
    tensors["weight"] += 1
    assert_same_model(HELPER.get_weights(module), before)


def test_optimizers_go_on_with_the_parameters_they_have() -> None:
    module = nn.Linear(2, 1)
    parameter = module.weight
    HELPER.set_weights(module, HELPER.get_weights(nn.Linear(2, 1)))
    assert module.weight is parameter
    assert parameter.requires_grad


def test_weights_that_do_not_fit_are_refused_with_every_difference() -> None:
    module = nn.Linear(2, 1)
    before = HELPER.get_weights(module)
    with pytest.raises(InvalidInput) as caught:
        HELPER.set_weights(module, {"weight": np.zeros((2, 2)), "scale": np.zeros(1)})
    for reason in ("'bias' is missing", "'weight' has shape", "'weight' has dtype", "no tensor 'scale'"):
        assert reason in caught.value.message
    assert_same_model(HELPER.get_weights(module), before)


class WithExtraState(nn.Module):
    def get_extra_state(self) -> Any:
        return {"a": 1}


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: {"weight": torch.zeros(1)}, "not a torch.nn.Module"),
        (WithExtraState, "is no tensor"),
        (lambda: nn.LazyLinear(2), "no shape yet"),
        (lambda: nn.Linear(2, 2, dtype=torch.complex64), "complex64"),
        (lambda: nn.Linear(2, 2, device="meta"), "meta device"),
    ],
)
def test_what_is_not_tensors_of_numbers_is_refused(make: Any, reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason) as caught:
        HELPER.get_weights(make())
    assert caught.value.code == "model_not_supported"


def test_pickles_of_torch_are_refused_and_safetensors_are_read(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    module = convolutional(2)
    torch.save(module.state_dict(), tmp_path / "model.pt")
    torch.save(module.state_dict(), tmp_path / "model.safetensors")
    for name in ("model.pt", "model.safetensors"):
        with pytest.raises(InvalidInput) as caught:
            HELPER.read_file(tmp_path / name)
        assert caught.value.code == "pickled_file"
    save_file(module.state_dict(), tmp_path / "model.safetensors")
    tensors = HELPER.read_file(tmp_path / "model.safetensors")
    assert tensors.keys() == module.state_dict().keys()
    HELPER.set_weights(module, tensors)
