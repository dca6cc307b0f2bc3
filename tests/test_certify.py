"""Certified radii against exact distances, and certificates as files."""

import io
import json
import math
import pickle
from collections import OrderedDict
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import lipnets
from lipnets import Certificate, NotCertifiedError, certified_radii, certify
from lipnets.certificate_file import rewritten
from lipnets.layers.scale import Scale


def classifier(backbone: nn.Module, head: nn.Module) -> nn.Sequential:
    return nn.Sequential(OrderedDict(backbone=backbone, head=head)).eval()


def two_layers() -> nn.Sequential:
    body = nn.Sequential(nn.Flatten(), nn.Linear(6, 8), nn.ReLU())
    return classifier(body, nn.Linear(8, 4))


def test_radius_of_a_linear_classifier_is_the_distance_to_the_nearest_boundary() -> None:
    head = nn.Linear(5, 3)
    model = classifier(Scale(2.0), head)
    x = torch.randn(64, 5)
    labels = model(x).argmax(dim=1)

    radii = certified_radii(model, x, labels)

    for image, y, radius in zip(x, labels, radii, strict=True):
        planes = 2 * (head.weight[y] - head.weight), head.bias[y] - head.bias
        distances = (planes[0] @ image + planes[1]) / planes[0].norm(dim=1)
        distances[y] = torch.inf
        assert radius.item() == pytest.approx(distances.min().item(), rel=1e-9)
        assert radius <= distances.min() * (1 + 1e-14)


def test_no_step_within_the_radius_changes_the_prediction() -> None:
    model = two_layers()
    x = torch.randn(200, 1, 2, 3)
    labels = model(x).argmax(dim=1)
    radii = certified_radii(model, x, labels)
    assert (radii >= 0).all()
    for _ in range(20):
        step = torch.randn_like(x)
        step *= (radii / step.flatten(1).norm(dim=1))[:, None, None, None]
        assert torch.equal(model(x + step).argmax(dim=1), labels)


def test_pairwise_slopes_are_never_worse_than_the_joint_ones() -> None:
    certificate = certify(two_layers(), (1, 2, 3))
    assert (certificate.slopes <= math.sqrt(2) * certificate.lipschitz * (1 + 1e-15)).all()
    assert certificate.slopes.diagonal().eq(0).all()
    head = certificate.program[-1].weight
    gaps = torch.cdist(head, head, compute_mode="donot_use_mm_for_euclid_dist")
    backbone = certificate.bound.parts[0].value
    assert torch.allclose(
        certificate.slopes,
        (gaps * backbone).clamp_max(1.4142135623731 * certificate.lipschitz),
        rtol=1e-9,
    )
    assert (certificate.slopes >= gaps * backbone * (1 - 1e-14)).all() or (
        certificate.slopes < gaps * backbone
    ).any()


def test_a_classifier_without_a_linear_head_has_the_joint_slopes() -> None:
    certificate = certify(nn.Sequential(nn.Linear(5, 3), nn.ReLU()).eval(), (5,))
    joint = math.sqrt(2) * certificate.lipschitz
    off = ~torch.eye(3, dtype=torch.bool)
    assert (certificate.slopes[off] >= joint).all()
    assert certificate.slopes[off].max().item() == pytest.approx(joint)
    assert certify(nn.Linear(5, 3).eval(), (5,)).slopes.max() > 0


def test_a_head_with_a_forward_of_its_own_is_not_bounded_by_pairs() -> None:
    class OffsetRows(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 3 * super().forward(x)

    @lipnets.rule(OffsetRows)
    def tripled(module: OffsetRows, shape: tuple[int, ...]) -> lipnets.Bound:
        return lipnets.Bound(3 * module.weight.norm().item(), "three times the Frobenius norm")

    certificate = certify(nn.Sequential(nn.ReLU(), OffsetRows(5, 3)).eval(), (5,))
    assert certificate.slopes.max().item() == pytest.approx(math.sqrt(2) * certificate.lipschitz)


def test_wrong_predictions_have_negative_radii_and_ties_have_none() -> None:
    head = nn.Linear(2, 3, bias=False)
    head.weight.data = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]])
    model = classifier(nn.Identity(), head)
    images = torch.tensor([[2.0, 1.0], [2.0, 1.0], [1.0, 1.0], [math.nan, 1.0], [math.inf, 1.0]])
    radii = certified_radii(model, images, torch.tensor([0, 1, 0, 0, 0]))
    assert radii[0].item() == pytest.approx(1 / math.sqrt(2))
    assert radii[1].item() == pytest.approx(-1 / math.sqrt(2))
    assert radii[2:].tolist() == [0, 0, 0]


def test_equal_rows_of_the_head_leave_the_biases_to_decide() -> None:
    """As far as rounding errors are known to be small: a thousand times the diagonal of [0, 1]ᵈ."""
    head = nn.Linear(2, 3)
    head.weight.data = torch.ones(3, 2)
    model = classifier(nn.Identity(), head)
    far = 1024 * math.sqrt(2)
    for biases, expected in (([1, 0, 0], far), ([1, 1, 0], 0), ([0, 1, 0], -math.inf)):
        head.bias.data = torch.tensor(biases).double()
        radius = certified_radii(model, torch.rand(1, 2), torch.tensor([0])).item()
        assert radius == pytest.approx(expected)


def test_a_single_class_is_certified_everywhere_and_said_to_be_vacuous() -> None:
    certificate = certify(classifier(nn.Flatten(), nn.Linear(4, 1)), (1, 2, 2))
    assert certificate.vacuous
    assert (
        certificate.radii(torch.rand(3, 1, 2, 2), torch.zeros(3).long()).tolist() == [math.inf] * 3
    )
    assert not certify(two_layers(), (1, 2, 3)).vacuous


def test_radii_are_reduced_by_rounding_errors_and_rounded_down() -> None:
    certificate = certify(two_layers(), (1, 2, 3))
    logits = torch.randn(500, 4) * 10.0 ** torch.randint(-6, 2, (500, 1))
    labels = logits.argmax(dim=1)
    radii = certificate.radii_of(logits, labels)
    sizes = torch.full((500,), math.sqrt(6.0) * (1 + 2.0**-51))
    errors = certificate.errors(labels, sizes) + certificate.errors(labels, sizes, radii)
    assert (errors.gather(1, labels[:, None]) >= 0).all()
    for row, label, error, radius in zip(logits, labels, errors, radii, strict=True):
        exact, reduced = (
            min(
                (Fraction(row[label].item()) - Fraction(row[j].item()) - off)
                / Fraction(certificate.slopes[label, j].item())
                for j, off in enumerate(offs)
                if j != label
            )
            for offs in ([0] * 4, [Fraction(e.item()) for e in error])
        )
        assert Fraction(radius.item()) <= reduced or radius == 0
        assert Fraction(radius.item()) >= exact - Fraction(1, 10**12)


def test_a_prediction_that_float32_rounds_away_is_not_certified_in_float32() -> None:
    """Biases of 2²¹ leave float32 an eighth: it cannot tell inputs that float64 tells apart."""
    backbone = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    for layer, bias in zip(backbone, (2.0**21, -(2.0**21)), strict=True):
        layer.weight.data, layer.bias.data = torch.eye(2), torch.full((2,), bias)
    head = nn.Linear(2, 2, bias=False)
    head.weight.data = torch.eye(2)
    model = classifier(backbone, head)
    images, labels = torch.tensor([[0.24, 0.1]]), torch.tensor([0])
    certificate = certify(model, (2,))
    radius = certificate.radii(images, labels).item()
    assert radius == pytest.approx(0.14 / math.sqrt(2), abs=1e-7)
    assert certificate.radii(images, labels, arithmetic="float32").item() == 0
    single = model.float()(images.float() + torch.tensor([[-0.04, 0.03]]).float())
    assert single[0, 0] == single[0, 1]  # a tie, well within the radius of float64


def test_radii_of_other_norms_and_of_the_top_classes() -> None:
    certificate = certify(two_layers(), (1, 2, 3))
    images = torch.rand(50, 1, 2, 3)
    logits = certificate.logits(images)
    labels = logits.argsort(dim=1)[:, -2]
    first, second = (certificate.radii(images, labels, top=k) for k in (1, 2))
    assert (first <= 0).all()
    assert (second >= 0).all()
    slopes, rows = certificate.slopes[labels], torch.arange(50)
    quotients = (logits[rows, labels][:, None] - logits) / slopes
    quotients[rows, labels] = math.inf
    assert torch.allclose(second, quotients.sort(dim=1).values[:, 1], atol=1e-12)
    assert certificate.radii(images, labels, top=4).isinf().all()

    linf = certificate.radii(images, labels, top=2, norm="linf")
    assert (linf * math.sqrt(6) <= second).all()
    assert torch.allclose(linf * math.sqrt(6), second)
    assert torch.equal(certificate.radii(images, labels, top=2, norm="l1"), second)
    for arguments in ({"norm": "l0"}, {"top": 0}):
        with pytest.raises(ValueError, match="'norm' should be one of"):
            certificate.radii(images, labels, **arguments)


def test_predictions_abstain_where_a_radius_is_not_proved() -> None:
    certificate = certify(two_layers(), (1, 2, 3))
    images = torch.rand(50, 1, 2, 3)
    classes = certificate.logits(images).argmax(dim=1)
    assert torch.equal(certificate.predict(images), classes)
    radii = certificate.radii(images, classes)
    radius = radii.median().item()
    answers = certificate.predict(images, radius, batch_size=7)
    assert torch.equal(answers == -1, radii < radius)
    assert torch.equal(answers[answers != -1], classes[answers != -1])
    assert (certificate.predict(images, math.inf) == -1).all()
    assert certificate.predict(torch.full((1, 1, 2, 3), math.nan)).item() == -1
    with pytest.raises(ValueError, match="not be negative"):
        certificate.predict(images, -1.0)


def test_radii_are_those_of_the_exported_network_in_float64() -> None:
    model = two_layers().float()
    images, labels = torch.rand(9, 1, 2, 3), torch.randint(4, (9,))
    certificate = certify(model, (1, 2, 3))
    logits = certificate.logits(images.float())
    assert logits.dtype == torch.float64
    assert torch.allclose(logits, model.double()(images.float().double()), rtol=1e-13)
    radii = certificate.radii(images.float(), labels)
    assert torch.allclose(certificate.radii_of(logits, labels), radii, atol=1e-13)
    assert torch.equal(certificate.radii_of(logits, labels, images=images.float()), radii)
    one_by_one = torch.cat(
        [certificate.radii(images[i : i + 1], labels[i : i + 1]) for i in range(9)]
    )
    assert torch.allclose(one_by_one, certificate.radii(images, labels, batch_size=4), rtol=1e-6)


def test_autocast_does_not_reach_the_certificate() -> None:
    model, images = two_layers().float(), torch.rand(9, 1, 2, 3).float()
    expected = certify(model, (1, 2, 3)).logits(images)
    with torch.autocast("cpu", torch.bfloat16):
        certificate = certify(model, (1, 2, 3))
        assert torch.equal(certificate.logits(images), expected)


def test_certifying_leaves_the_model_as_it_is() -> None:
    model = two_layers().float()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    certify(model, (1, 2, 3)).radii(torch.rand(2, 1, 2, 3), torch.zeros(2).long())
    assert torch.equal(torch.get_rng_state(), state) is False  # torch.rand above moved it
    state = torch.get_rng_state()
    certify(model, (1, 2, 3))
    assert torch.equal(torch.get_rng_state(), state)
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert next(model.parameters()).dtype == torch.float32


@pytest.mark.parametrize(
    ("images", "labels", "why"),
    [
        (torch.zeros(0, 1, 2, 3), torch.zeros(0).long(), "no images"),
        (torch.zeros(2, 1, 2, 3), torch.tensor([0, 4]), "from 0 to 3, got 0 to 4"),
        (torch.zeros(2, 1, 2, 3), torch.tensor([-1, 0]), "got -1 to 0"),
        (torch.zeros(2, 1, 2, 3), torch.zeros(3).long(), "2 integers"),
        (torch.zeros(2, 1, 2, 3), torch.zeros(2), "2 integers"),
        (torch.zeros(2, 1, 2, 3).byte(), torch.zeros(2).long(), "divide bytes by 255"),
        (torch.zeros(2, 1, 3, 3), torch.zeros(2).long(), "should have shape"),
    ],
)
def test_images_and_labels_that_do_not_fit_are_refused(images, labels, why) -> None:
    with pytest.raises(ValueError, match=why):
        certify(two_layers(), (1, 2, 3)).radii(images, labels)


def test_logits_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(B, 4\)"):
        certify(two_layers(), (1, 2, 3)).radii_of(torch.zeros(2, 3), torch.zeros(2).long())


def test_training_mode_and_outputs_that_are_no_logits_are_refused() -> None:
    with pytest.raises(NotCertifiedError, match="training mode"):
        certify(two_layers().train(), (1, 2, 3))
    with pytest.raises(NotCertifiedError, match="one row of logits"):
        certify(nn.Sequential(nn.ReLU()).eval(), (1, 2, 3))


def test_a_certificate_survives_the_disk(tmp_path: Path) -> None:
    model = two_layers()
    certificate = certify(model, (1, 2, 3))
    certificate.save(tmp_path / "certificate.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["certificate.npz"]

    loaded = Certificate.load(tmp_path / "certificate.npz")
    assert loaded.bound == rewritten(certificate).bound
    assert loaded.lipschitz == certificate.lipschitz
    assert torch.equal(loaded.slopes, certificate.slopes)
    assert loaded.shape == (1, 2, 3)
    assert loaded.arithmetic == "float64"
    with np.load(tmp_path / "certificate.npz", allow_pickle=False) as file:
        meta = json.loads(file["meta"].tobytes())
    assert meta["versions"] == {"torch": torch.__version__, "numpy": np.__version__}
    images, labels = torch.rand(5, 1, 2, 3), torch.randint(4, (5,))
    assert torch.equal(loaded.logits(images), certificate.logits(images))
    assert torch.equal(loaded.radii(images, labels), certificate.radii(images, labels))

    assert loaded.matches(model)
    bias = model.get_submodule("head").bias
    bias.data[0] = math.nextafter(bias.data[0].item(), math.inf)
    assert not loaded.matches(model)


def test_a_file_that_is_no_certificate_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "certificate.npz"
    certify(two_layers(), (1, 2, 3)).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="not a readable certificate"):
        Certificate.load(path)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="not a readable certificate"):
        Certificate.load(path)
    np.savez(path, meta=np.frombuffer(json.dumps({"format": "other"}).encode(), np.uint8), slopes=0)
    with pytest.raises(ValueError, match="its format is 'other'"):
        Certificate.load(path)
    np.savez(path, meta=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="not a readable certificate"):
        Certificate.load(path)
    with pytest.raises(FileNotFoundError):
        Certificate.load(tmp_path / "missing.npz")


def test_no_pickle_is_executed(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple:
            return Path.touch, (tmp_path / "executed",)

    path, content = tmp_path / "certificate.npz", io.BytesIO()
    np.savez(content, meta=np.array([Trap()], dtype=object), slopes=np.zeros((2, 2)))
    path.write_bytes(content.getvalue())
    with pytest.raises(ValueError, match="not a readable certificate"):
        Certificate.load(path)
    assert not (tmp_path / "executed").exists()
    pickle.loads(pickle.dumps(Trap()))  # the trap works
    assert (tmp_path / "executed").exists()


def test_a_model_without_weights_is_refused() -> None:
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))
    with pytest.raises(NotCertifiedError, match="meta device"):
        certify(model.eval(), (5,))


def test_a_failed_write_leaves_the_old_certificate(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "certificate.npz"
    certificate = certify(two_layers(), (1, 2, 3))
    certificate.save(path)
    before = path.read_bytes()

    def full(*args: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        certificate.save(path)
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["certificate.npz"]
