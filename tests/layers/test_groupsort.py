"""Sorting activations, against Python's sorted."""

import copy
import itertools
import time

import pytest
import torch
from functorch.compile import (
    make_boxed_func,  # pyright: ignore[reportPrivateImportUsage]
    min_cut_rematerialization_partition,
)
from torch import Tensor, nn
from torch._dynamo.backends.common import aot_autograd
from torch.autograd import forward_ad
from torch.fx import GraphModule

from lipnets.layers import GroupSort, MaxMin, build
from lipnets.layers.groupsort import FullSort, comparators


def sorted_by_hand(x: Tensor, group_size: int) -> Tensor:
    out = x.detach().flatten(2).clone() if x.ndim > 2 else x.detach()[..., None].clone()
    for example in out:
        for start in range(0, x.shape[1], group_size):
            group = example[start : start + group_size]
            columns = [sorted(column, reverse=True) for column in group.mT.tolist()]
            group.copy_(torch.tensor(columns).mT)
    return out.view_as(x)


# Torch writes some of its forward derivatives in a language that it deprecates.
TORCH = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("shape", [(3, 4), (2, 6, 3), (2, 4, 3, 2)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_maxmin_puts_the_larger_of_each_pair_first(shape, dtype, grad) -> None:
    x = torch.randn(shape).to(dtype)
    expected = sorted_by_hand(x, 2)
    assert torch.equal(MaxMin()(x.requires_grad_(grad)), expected)


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("group_size", range(1, 11))
def test_groupsort_sorts_each_group(group_size, grad) -> None:
    x = torch.randn(2, 2 * group_size, 3)
    assert torch.equal(GroupSort(group_size)(x.requires_grad_(grad)), sorted_by_hand(x, group_size))


@pytest.mark.parametrize("size", range(1, 11))
def test_networks_sort_all_inputs(size) -> None:
    # The 0-1 principle: a network that sorts all sequences of zeros and ones sorts everything.
    for bits in itertools.product([0, 1], repeat=size):
        wires = list(bits)
        for i, j in comparators(size):
            wires[i], wires[j] = max(wires[i], wires[j]), min(wires[i], wires[j])
        assert wires == sorted(bits, reverse=True)


def test_fullsort_sorts_all_channels() -> None:
    x = torch.randn(2, 5, 3)
    assert torch.equal(FullSort()(x), sorted_by_hand(x, 5))


@pytest.mark.parametrize("group_size", [1, 2, 3, 4, 8])
def test_gradients_of_groups_are_those_of_torch_sort(group_size) -> None:
    x, grad = (
        torch.randn(3, 2 * group_size, 2, requires_grad=True),
        torch.randn(3, 2 * group_size, 2),
    )
    groups = x.unflatten(1, (-1, group_size)).sort(dim=2, descending=True).values.flatten(1, 2)
    expected = torch.autograd.grad(groups, x, grad)[0]
    assert torch.equal(torch.autograd.grad(GroupSort(group_size)(x), x, grad)[0], expected)


@pytest.mark.parametrize("group_size", [2, 4])
def test_large_batches_are_sorted_in_parts(group_size, monkeypatch) -> None:
    monkeypatch.setattr("lipnets.layers._parts._PART", 20)
    x = torch.randn(5, 8, 2, requires_grad=True)
    out = GroupSort(group_size)(x)
    assert torch.equal(out, sorted_by_hand(x, group_size))
    out.square().sum().backward()
    torch.testing.assert_close(x.grad, 2 * x.detach())


@pytest.mark.parametrize("shape", [(0, 4, 2), (2, 0), (3, 4, 0)])
def test_empty_batches_stay_empty(shape) -> None:
    assert MaxMin()(torch.zeros(shape, requires_grad=True)).shape == shape


@pytest.mark.parametrize("module", [MaxMin(), GroupSort(4)])
def test_outputs_without_gradients_are_the_same(module) -> None:
    x = torch.randn(3, 8, 2, requires_grad=True)
    with torch.no_grad():
        plain = module(x)
    with torch.inference_mode():
        assert torch.equal(module(x), plain)
    assert torch.equal(module(x), plain)


@pytest.mark.parametrize("group_size", [1, 2, 3, 6])
def test_groupsort_keeps_the_gradient_norm(group_size) -> None:
    x, grad = torch.randn(2, 6, 3, requires_grad=True), torch.randn(2, 6, 3)
    GroupSort(group_size)(x).backward(grad)
    assert x.grad.norm().item() == pytest.approx(grad.norm().item())


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_maxmin_does_not_depend_on_the_layout_of_memory(memory_format) -> None:
    x = torch.randn(2, 4, 3, 3)
    laid_out = x.to(memory_format=memory_format).requires_grad_()
    out, grad = MaxMin()(laid_out), torch.randn(2, 4, 3, 3)
    assert torch.equal(out, sorted_by_hand(x, 2))
    out.backward(grad)
    x.requires_grad_()
    GroupSort(2)(x).backward(grad)
    assert torch.equal(laid_out.grad, x.grad)


@TORCH
@pytest.mark.parametrize("module", [MaxMin(), GroupSort(4)])
def test_derivatives_of_maxmin_are_those_of_finite_differences(module) -> None:
    x = torch.randn(2, 4, 3, requires_grad=True)
    forward = {"check_forward_ad": True, "check_batched_grad": True, "check_batched_forward_grad": True}  # fmt: skip
    assert torch.autograd.gradcheck(module, x, **forward)
    assert torch.autograd.gradgradcheck(lambda x: module(x) ** 3, x)


@TORCH
@pytest.mark.parametrize("differentiate", [torch.func.jacrev, torch.func.jacfwd, torch.func.hessian])  # fmt: skip
def test_maxmin_works_under_function_transforms(differentiate) -> None:
    x = torch.randn(3, 4, 2)

    def derivative(module: nn.Module) -> Tensor:
        cube = differentiate(lambda example: module(example[None])[0] ** 3)
        return torch.func.vmap(cube)(x)

    torch.testing.assert_close(derivative(MaxMin()), derivative(GroupSort(2)))


@pytest.mark.parametrize("group_size", [2, 3])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_what_is_compiled_has_the_gradients_of_torch_sort(group_size, memory_format) -> None:
    x, grad = torch.randn(2, 2, 2 * group_size, 3, 2)
    x = x.to(memory_format=memory_format).requires_grad_()
    groups = x.unflatten(1, (-1, group_size)).sort(dim=2, descending=True).values.flatten(1, 2)
    expected = torch.autograd.grad(groups, x, grad)[0]
    torch._dynamo.reset()
    out = torch.compile(GroupSort(group_size), backend="aot_eager", fullgraph=True)(x)
    assert torch.equal(out, groups)
    assert torch.equal(torch.autograd.grad(out, x, grad)[0], expected)


@pytest.mark.slow
@pytest.mark.parametrize("module", [MaxMin(), GroupSort(4)])
def test_what_is_compiled_saves_no_booleans(module) -> None:
    # Code that is generated for a CPU writes and reads booleans one at a time.
    saved: list[Tensor] = []

    def backward(graph: GraphModule, inputs: list[Tensor]) -> object:
        saved.extend(inputs)
        return make_boxed_func(graph.forward)

    backend = aot_autograd(
        fw_compiler=lambda graph, inputs: make_boxed_func(graph.forward),
        bw_compiler=backward,
        partition_fn=min_cut_rematerialization_partition,
    )
    torch._dynamo.reset()
    x = torch.randn(2, 8, 3, requires_grad=True)
    torch.compile(module, backend=backend, fullgraph=True)(x).sum().backward()
    assert {tensor.dtype for tensor in saved} == {torch.uint8, x.dtype}
    assert [tensor.shape for tensor in saved if tensor.dtype == x.dtype] == [x.shape]  # gradient


@TORCH
@pytest.mark.slow
def test_transforms_and_forward_derivatives_are_compiled() -> None:
    module, x = MaxMin(), torch.randn(3, 4, 2, requires_grad=True)

    def tangent(x: Tensor) -> Tensor | None:
        with forward_ad.dual_level():
            return forward_ad.unpack_dual(module(forward_ad.make_dual(x, x.cos()))).tangent

    by_row = torch.func.vmap(torch.func.grad(lambda row: module(row[None]).pow(3).sum()))
    for function in (tangent, by_row):
        torch._dynamo.reset()
        compiled = torch.compile(function, backend="aot_eager", fullgraph=True)
        torch.testing.assert_close(compiled(x), function(x))


def test_ties_pass_gradients_through() -> None:
    x, grad = torch.zeros(1, 4, requires_grad=True), torch.randn(1, 4)
    MaxMin()(x).backward(grad)
    assert torch.equal(x.grad, grad)


def test_not_a_number_is_not_hidden() -> None:
    x = torch.tensor([[torch.nan, 1.0]])
    assert MaxMin()(x).isnan().all()
    assert MaxMin()(x.requires_grad_()).isnan().all()
    torch._dynamo.reset()
    assert torch.compile(MaxMin(), backend="aot_eager")(x).isnan().all()


@pytest.mark.parametrize("module", [MaxMin(), GroupSort(2)])
def test_odd_numbers_of_channels_are_refused(module) -> None:
    with pytest.raises(ValueError, match="multiple of 2"):
        module(torch.zeros(1, 3))
    with pytest.raises(ValueError, match="multiple of 2"):
        module(torch.zeros(4))


def test_groups_have_a_channel_at_least() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        GroupSort(0)


def test_sorting_activations_are_built_by_name() -> None:
    assert isinstance(build("maxmin"), MaxMin)
    assert build("groupsort", group_size=4).group_size == 4
    assert copy.deepcopy(build("groupsort", group_size=4)).group_size == 4


@pytest.mark.slow
def test_maxmin_is_faster_than_the_usual_code() -> None:
    x = torch.randn(64, 64, 16, 16, dtype=torch.float32, requires_grad=True)

    def usual(x: Tensor) -> Tensor:
        first, second = x.unflatten(1, (-1, 2)).unbind(2)
        return torch.stack([first.maximum(second), first.minimum(second)], dim=2).flatten(1, 2)

    def seconds(module: object) -> float:
        taken = []
        for _ in range(10):
            start = time.process_time()
            module(x).sum().backward()
            taken.append(time.process_time() - start)
        return min(taken)

    assert seconds(MaxMin()) < 0.6 * seconds(usual)
