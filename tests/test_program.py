"""Programs of operations compute what the network computes, and are bounded as tightly."""

import copy
import inspect
import itertools
from collections.abc import Callable
from functools import cache

import pytest
import torch
from torch import Tensor, nn

import lipnets
from lipnets import NotCertifiedError, layers, lipschitz, models
from lipnets.bounds import forward_owner
from lipnets.layers import Concat, ConcatResidual, ConvexResidual, Parallel, Residual, Scale
from lipnets.layers.filtered_conv2d import StoredFilter2d
from lipnets.layers.householder_activation import StoredHouseholder
from lipnets.program import Affine, AxisMaps, Gather, lower, lowering
from lipnets.rounding import Analysis, Ball

Shape = tuple[int, ...]

OPERATIONS = {
    *(nn.Sequential, Residual, Concat, Parallel, Gather, nn.Identity, Affine, AxisMaps),
    *(nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d),
    *(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
    *(layers.StoredConv2d, StoredFilter2d),
    *(nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.Hardtanh, nn.Softshrink),
    *(layers.Abs, layers.BetaAbs, layers.MaxMin, layers.GroupSort, layers.FullSort),
    *(StoredHouseholder, layers.NActivation, layers.LinearSpline),
    *(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d),
    *(nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d),
    *(layers.L2NormPool2d, layers.AdaptiveL2NormPool2d),
    *(nn.Tanh, nn.Sigmoid, nn.Softplus, nn.GELU, nn.SiLU, nn.ELU, layers.SoftHuber),
    *(nn.Softsign, nn.LogSigmoid, nn.Tanhshrink),
    *(layers.PotentialLinear, layers.PotentialConv2d),
    *(layers.SandwichLinear, layers.SandwichConv2d, layers.L2SelfAttention),
}
CONTAINERS = {nn.Sequential, Residual, Concat, Parallel}


def filled(module: nn.Module) -> nn.Module:
    """The module with numbers that its initialization does not have, positive where they must be."""
    for tensor in itertools.chain(module.parameters(), module.buffers()):
        if tensor.is_floating_point():
            tensor.data = tensor.data + 0.3 * torch.rand_like(tensor)
    return module


def branch(size: int = 6) -> nn.Module:
    return nn.Sequential(nn.Linear(size, size), Scale(0.5), nn.ReLU())


# What the registry of layers does not hold: (constructor, shape of an example).
OTHERS: dict[str, tuple[Callable[[], nn.Module], Shape]] = {
    "Flatten": (lambda: nn.Flatten(2, -1), (2, 3, 4)),
    "Unflatten": (lambda: nn.Unflatten(1, (2, 3)), (6,)),
    "PixelShuffle": (lambda: nn.PixelShuffle(2), (8, 2, 3)),
    "Permute": (lambda: layers.Permute(0, 3, 1, 2), (2, 4, 6)),
    "Dropout": (nn.Dropout, (7,)),
    "Dropout2d": (nn.Dropout2d, (3, 2, 2)),
    "AlphaDropout": (nn.AlphaDropout, (7,)),
    "ZeroPad2d": (lambda: nn.ZeroPad2d((1, 0, 2, 1)), (2, 3, 3)),
    "ZeroPad2d, cropping": (lambda: nn.ZeroPad2d(-1), (2, 4, 4)),
    "ConstantPad1d": (lambda: nn.ConstantPad1d((1, 3), 0.1), (2, 3)),
    "ConstantPad3d": (lambda: nn.ConstantPad3d(1, -7.0), (1, 2, 2, 2)),
    "BatchNorm1d": (lambda: nn.BatchNorm1d(3), (3,)),
    "BatchNorm1d, signals": (lambda: nn.BatchNorm1d(3), (3, 4)),
    "BatchNorm3d": (lambda: nn.BatchNorm3d(3, affine=False), (3, 2, 1, 2)),
    "BatchCentering, vectors": (lambda: layers.BatchCentering(3, affine=False), (3,)),
    "BatchLipNorm, vectors": (lambda: layers.BatchLipNorm(3, affine=False), (3,)),
    "LayerCentering, rows": (lambda: layers.LayerCentering(4), (2, 4)),
    "LayerCentering, signals": (lambda: layers.LayerCentering((3, 1, 4)), (3, 1, 4)),
    "LayerCentering, one entry": (lambda: layers.LayerCentering((1, 1)), (3, 1, 1)),
    "LayerCentering, three axes": (lambda: layers.LayerCentering((2, 3, 4), False), (2, 3, 4)),
    "AvgPool1d": (lambda: nn.AvgPool1d(3, 2, 1), (2, 7)),
    "AvgPool2d": (lambda: nn.AvgPool2d((3, 2), (2, 3), (1, 0), True, False), (2, 6, 5)),
    "AvgPool2d, own divisor": (
        lambda: nn.AvgPool2d(3, 2, 1, ceil_mode=True, divisor_override=-2),
        (1, 5, 6),
    ),
    "AvgPool3d": (lambda: nn.AvgPool3d(2, 1), (1, 3, 3, 3)),
    "AdaptiveAvgPool1d": (lambda: nn.AdaptiveAvgPool1d(3), (2, 7)),
    "AdaptiveAvgPool2d": (lambda: nn.AdaptiveAvgPool2d((2, None)), (2, 5, 3)),
    "AdaptiveAvgPool3d": (lambda: nn.AdaptiveAvgPool3d(2), (1, 3, 4, 3)),
    "BlurPool2d, zeros": (lambda: layers.BlurPool2d(5, 3, "zeros", "least_squares"), (2, 7, 4)),
    "SpatialShift2d, zeros": (lambda: layers.SpatialShift2d(4, "zeros"), (4, 3, 2)),
    "BlockDCT2d": (lambda: layers.BlockDCT2d(3), (2, 3, 6)),
    "Standardize": (lambda: layers.Standardize((0.4, 0.5), (0.2, 0.3)), (2, 3, 3)),
    "Standardize, one for all": (lambda: layers.Standardize((0.4,), (0.2,)), (3, 2)),
    "Scale": (lambda: Scale(-3.0), (5,)),
    "Residual": (lambda: Residual(branch()), (6,)),
    "Residual, shortcut": (lambda: Residual(branch(), layers.Permute(0, 1)), (6,)),
    "ConvexResidual": (lambda: ConvexResidual(branch(), 0.3), (6,)),
    "ConvexResidual, fixed": (lambda: ConvexResidual(branch(), 0.3, learnable=False), (6,)),
    "ConcatResidual": (lambda: ConcatResidual(branch(), 0.3), (6,)),
    "Concat": (lambda: Concat(nn.Identity(), branch(), Scale(2.0)), (6,)),
    "Parallel": (lambda: Parallel([Scale(0.5), nn.Dropout(), branch(2)], (3, 1, 2)), (6,)),
    "Pointwise": (lambda: layers.Pointwise(nn.Linear(3, 4)), (3, 2, 3)),
    "Pointwise, of vectors": (lambda: layers.Pointwise(nn.Linear(3, 4)), (3,)),
    "Pointwise, of four axes": (lambda: layers.Pointwise(nn.Linear(3, 4)), (3, 2, 1, 2, 2)),
    "Pointwise, of several": (
        lambda: layers.Pointwise(
            nn.Sequential(nn.Linear(3, 4, False), layers.MaxMin(), nn.BatchNorm1d(4), nn.PReLU(4))
        ),
        (3, 2, 3),
    ),
    "Conjugate": (
        lambda: layers.Conjugate(nn.Linear(4, 3, False), layers.SpatialShift2d()),
        (4, 2, 3),
    ),
    "TokenMixer": (lambda: layers.TokenMixer(3, 4), (3, 4)),
    "BandSplit": (lambda: layers.BandSplit([Scale(0.5), nn.ReLU()], (0.2,)), (2, 3, 4)),
    "BandSplit, sum": (
        lambda: layers.BandSplit([Scale(0.5), nn.Conv2d(2, 2, 1)], (0.2,), "sum"),
        (2, 4, 3),
    ),
    "Sequential": (lambda: nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(6, 2)), (2, 3)),
    "Sequential, empty": (nn.Sequential, (3,)),
    "Softplus": (nn.Softplus, (3,)),
    "LeakyReLU": (nn.LeakyReLU, (3,)),
}
NAMES = [*layers.names(), *OTHERS]


@cache
def exported(name: str) -> tuple[nn.Module, Shape]:
    """A layer in float64, as it is exported, with weights of no special value."""
    torch.manual_seed(0)
    if name in OTHERS:
        build, shape = OTHERS[name]
        return lipnets.export(filled(build()).double(), shape), shape
    card = layers.card(name)
    return lipnets.export(layers.build(name, **card.arguments).double(), card.shape), card.shape


@cache
def lowered(name: str) -> nn.Module:
    return lower(*exported(name))


def images(shape: Shape) -> Tensor:
    return torch.randn(4, *shape) * torch.tensor([1e-3, 1.0, 1.0, 30.0]).view(-1, *[1] * len(shape))


def tree(module: nn.Module) -> set[type[nn.Module]]:
    """The operations of a program; what is inside of a block is a part of it."""
    owner = forward_owner(type(module))
    if owner not in CONTAINERS:
        return {owner}
    children = list(module.children())
    lists = [child for child in children if isinstance(child, nn.ModuleList)]
    children += [inner for each in lists for inner in each]
    return {owner}.union(*(tree(child) for child in children if child not in lists))


@pytest.mark.parametrize("name", NAMES)
def test_a_program_is_what_the_layer_is_in_operations_that_there_are(name) -> None:
    (module, shape), program = exported(name), lowered(name)
    assert tree(program) <= OPERATIONS
    if program is module:
        return
    for tensor in [*program.parameters(), *program.buffers()]:
        assert tensor.dtype in (torch.float64, torch.int64)
    x = images(shape)
    expected, found = module(x.clone()), program(x.clone())
    assert found.shape == expected.shape
    assert found.dtype == torch.float64
    size = expected.flatten(1).norm(dim=1)
    assert ((found - expected).flatten(1).norm(dim=1) <= 1e-12 * size.clamp_min(1e-3)).all()
    before, after = lipschitz(module, shape).value, lipschitz(program, shape).value
    assert before * (1 - 1e-9) <= after <= before * (1 + 1e-9)


# What computes nothing, or only picks numbers.
EXACT = {nn.Sequential, Concat, Parallel, Gather, nn.Identity, nn.ReLU, nn.Hardtanh, layers.Abs}
EXACT |= {layers.BetaAbs, layers.MaxMin, layers.GroupSort, layers.FullSort, nn.AdaptiveMaxPool2d}
EXACT |= {nn.MaxPool2d}


@pytest.mark.parametrize("name", NAMES)
def test_what_rounds_has_an_error_and_what_does_not_has_none(name) -> None:
    (_, shape), program = exported(name), lowered(name)
    after = Analysis("float64")(program, shape, Ball(norm=30.0))
    scale = max(1.0, lipschitz(program, shape).value) * 30
    if tree(program) <= EXACT:
        assert after.error.item() == 0
    else:
        assert 0 < after.error.item() < 1e-9 * scale


def sabotages(module: nn.Module) -> list[Callable[[nn.Module], object]]:
    """What no certificate may ignore."""
    return [
        lambda each: each.register_forward_hook(lambda m, args, out: out),
        lambda each: each.register_forward_pre_hook(lambda m, args: None),
        lambda each: each.train(),
        lambda each: setattr(each, "forward", lambda x: x),
    ]


def refuses(work: Callable[[], object]) -> bool:
    try:
        work()
    except (NotCertifiedError, ValueError):  # of a forward that was patched, sizes do not fit
        return True
    return False


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_refused_of_a_layer_is_refused_of_its_program(name) -> None:
    """Whatever a hook, training mode or a patch does to any module of a layer."""
    module, shape = exported(name)
    for index, _ in enumerate(module.modules()):
        for spoil in sabotages(module):
            spoiled = copy.deepcopy(module)
            spoil(list(spoiled.modules())[index])
            if refuses(lambda spoiled=spoiled: lipschitz(spoiled, shape)):
                assert refuses(lambda spoiled=spoiled: lipschitz(lower(spoiled, shape), shape))


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (nn.Flatten(0), (3,)),
        (nn.Unflatten(0, (1, 1)), (3,)),
        (nn.BatchNorm1d(3, track_running_stats=False), (3,)),
        (nn.PixelUnshuffle(2), (4, 4)),
        (nn.ZeroPad2d((0, 0, 0, 0, 0, 0, 1, -1)), (1, 2, 2)),
        (nn.AvgPool2d(2), (4, 4)),
        (layers.Standardize((0.0,) * 3, (1.0,) * 3), (1, 2, 2)),
        (layers.PositionBias2d((3, 3)), (2, 1, 3)),
        (layers.BatchCentering(3), (1, 2)),
        (layers.BlurPool2d(5), (1, 3, 3)),
        (ConvexResidual(nn.ReLU(inplace=True)), (3,)),
        (ConvexResidual(nn.Linear(3, 1)), (3,)),
        (layers.TokenMixer(2, 2), (2, 2, 2)),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else str(value),
)
def test_a_configuration_without_a_proof_has_no_program(module, shape) -> None:
    module.eval()
    with pytest.raises(NotCertifiedError):
        lipschitz(module, shape)
    with pytest.raises(NotCertifiedError):
        lipschitz(lower(module.double(), shape), shape)


def test_names_of_layers_stay() -> None:
    model = nn.Sequential()
    model.add_module("start", layers.Standardize((0.5,), (0.2,)))
    model.add_module("body", nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten()))
    model.add_module("head", nn.Linear(8, 3))
    program = lower(model.double().eval(), (1, 4, 4))
    assert [name for name, _ in program.named_children()] == ["start", "body", "head"]
    assert [name for name, _ in program.body.named_children()] == ["0", "1", "2"]
    assert program.head is model.head  # weights are not copied


def test_the_sizes_behind_each_operation_are_those_it_is_lowered_for() -> None:
    """The same average, at two sizes: one matrix each."""
    pool = nn.AdaptiveAvgPool2d(2)
    model = nn.Sequential(pool, nn.ZeroPad2d(1), pool).double().eval()
    program, x = lower(model, (1, 5, 3)), torch.randn(2, 1, 5, 3)
    torch.testing.assert_close(program(x), model(x), rtol=1e-14, atol=1e-14)
    assert tree(program) == {nn.Sequential, AxisMaps, Gather}


def test_affine_maps_that_would_repeat_an_example_are_refused() -> None:
    for shape in ((1, 3), (3,)):
        with pytest.raises(NotCertifiedError, match="broadcast"):
            lipschitz(Affine(torch.ones(2, 1)).eval(), shape)


def test_coordinates_that_are_picked_often_count_as_often() -> None:
    index = torch.tensor([0, 2, 0, -1, 0])
    module = Gather(index, (5,)).eval()
    matrix = module(torch.eye(3)).T
    assert lipschitz(module, (3,)).value == pytest.approx(
        torch.linalg.matrix_norm(matrix, 2).item()
    )
    for wrong in ([0, 3], [-2, 0]):
        with pytest.raises(NotCertifiedError, match="lack"):
            lipschitz(Gather(torch.tensor(wrong), (2,)).eval(), (3,))
    with pytest.raises(NotCertifiedError, match="takes no examples"):
        lipschitz(Gather(None, (4,)).eval(), (3,))


def test_maps_along_axes_have_the_norm_of_their_kronecker_product() -> None:
    matrices = [torch.randn(2, 3), None, torch.randn(4, 2)]
    module = AxisMaps(matrices).eval()
    explicit = torch.kron(torch.kron(matrices[0], torch.eye(2)), matrices[2])
    x = torch.randn(3, 2, 2)
    torch.testing.assert_close(module(x[None]).flatten(), explicit @ x.flatten())
    norm = torch.linalg.matrix_norm(explicit, 2).item()
    assert norm * (1 - 1e-12) <= lipschitz(module, (3, 2, 2)).value <= norm * (1 + 1e-9)


FAMILIES = sorted({models.card(name).family for name in models.names()})
TINY = {"width": 8, "depth": 2, "blocks": 2, "hidden": (6,), "embed_dim": 8, "num_heads": 2}
TINY |= {"linear_depth": 1, "hidden_channels": 4, "hidden_features": 8, "channels": 4}
SLOW = {"kwlarge", "lipconvnet", "onelip_convnet", "resnet"}  # of layers that others have too


@pytest.mark.parametrize(
    "family", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in FAMILIES]
)
def test_families_are_programs(family) -> None:
    torch.manual_seed(0)
    names = [name for name in models.names() if models.card(name).family == family]
    name = min(names, key=lambda name: (not name.endswith(("_xs", "_s")), name))
    taken = inspect.signature(models.registry[name]).parameters
    tiny = {key: value for key, value in TINY.items() if key in taken}
    model = lipnets.create_model(name, num_classes=3, in_chans=1, img_size=8, **tiny).eval()
    shape = (1, 8, 8)
    module = lipnets.export(model, shape).double()
    program, x = lower(module, shape), torch.rand(2, *shape)
    torch.testing.assert_close(program(x.clone()), module(x.clone()), rtol=1e-11, atol=1e-12)
    assert tree(program) <= OPERATIONS
    bound = lipschitz(program, shape).value
    assert bound <= lipschitz(module, shape).value * (1 + 1e-6)
    after = Analysis("float64")(program, shape, Ball(norm=8.0))
    assert 0 < after.error.item() < 1e-9 * max(bound, 1)


@pytest.mark.parametrize(
    "module",
    [
        nn.ConstantPad1d((1, 2), 0.25),
        nn.ConstantPad1d((-1, 0), 3.0),
        nn.ConstantPad2d((1, 0, 2, 1), -1.5),
        nn.AvgPool2d(2, divisor_override=3),
        nn.AvgPool2d((2, 1), divisor_override=1),
    ],
)
def test_constants_are_kept_and_the_module_is_left_as_it_was(module) -> None:
    module, shape = module.eval(), (2, 4, 4) if "2d" in type(module).__name__ else (2, 5)
    x, before = torch.randn(3, *shape), str(module)
    expected = module(x)
    lowered = lower(module, shape)
    assert str(module) == before
    torch.testing.assert_close(lowered(x), expected, rtol=1e-14, atol=1e-14)


def test_axes_that_examples_lack_or_that_come_twice_are_refused() -> None:
    maps = AxisMaps([None, torch.eye(3), torch.eye(4)]).eval()
    assert lipschitz(maps, (2, 3, 4)).value >= 1
    with pytest.raises(NotCertifiedError, match="takes no examples"):
        lipschitz(maps, (2, 3))
    maps.axes = (1, 1)
    with pytest.raises(NotCertifiedError, match="takes no examples"):
        lipschitz(maps, (2, 3, 4))


def test_a_second_lowering_is_refused() -> None:
    with pytest.raises(ValueError, match="already has a lowering"):
        lowering(nn.Flatten)(lambda module, shape: module)
