"""Bounds below the product of layers: how far below, at what time, and what radii gain.

    python benchmarks/tighter.py [--size 8] [--steps 3] [NAME ...]
    python benchmarks/tighter.py --residual [--steps 3]

Each model is certified as it is initialized and after some steps of training on random images: the
mean over pairs of classes of the bound by layers and of the tightened one, both proved; the mean of the
largest gradients of margins at the images, which no bound can be below; and the median radius around
them by each bound, and around each image (`Certificate.local_radii`).  Times are wall seconds.

`--residual`: plain residual networks, without any constraint: a convolution, stages of two blocks
x + conv(ReLU(conv(x))) with a ReLU behind each, the first block of later stages with a stride of 2 and twice
the channels, the mean over pixels and a linear head; the constant of the whole by layers and tightened,
and the largest singular value of a Jacobian that was found from four images.
"""

import argparse
import platform
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

import lipnets
from lipnets import models
from lipnets.estimates import attained_slope
from lipnets.layers import Residual

NAMES = (
    "plain_mlp_s",
    "plain_mlp_m",
    "plain_convnet_xs",
    "gloronet",
    "lipmlp",
    "aol_mlp",
    "resnet18",
)


def timed(method: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    return method(), time.perf_counter() - start


def train(model: nn.Module, images: torch.Tensor, labels: torch.Tensor, steps: int) -> None:
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(4 * model(images), labels).backward()
        optimizer.step()
    model.eval()


def attained(program: nn.Module, images: torch.Tensor, classes: torch.Tensor) -> float:
    """The mean over pairs of the largest gradient of a margin at some images."""
    gaps = []
    for image in images:
        x = image[None].double().requires_grad_()
        logits = program(x.clone())[0]
        rows = [torch.autograd.grad(one, x, retain_graph=True)[0].flatten() for one in logits]
        flat = torch.stack(rows)
        gaps.append((flat[:, None] - flat).norm(dim=-1))
    return torch.stack(gaps).amax(dim=0)[classes].mean().item()


def residual_network(width: int, stages: int) -> nn.Module:
    def conv(inputs: int, outputs: int, size: int = 3, stride: int = 1) -> nn.Module:
        return nn.Conv2d(inputs, outputs, size, stride=stride, padding=size // 2)

    layers, inputs = [conv(3, width), nn.ReLU()], width
    for stage in range(stages):
        for stride in (1 if stage == 0 else 2, 1):
            outputs = inputs * stride
            branch = nn.Sequential(
                conv(inputs, outputs, stride=stride), nn.ReLU(), conv(outputs, outputs)
            )
            shortcut = conv(inputs, outputs, 1, stride) if stride > 1 else None
            layers += [Residual(branch, shortcut), nn.ReLU()]
            inputs = outputs
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, 10)]
    return nn.Sequential(*layers).eval()


def residual_networks(steps: int) -> None:
    print(f"{'width':>6}{'size':>6}{'stages':>8}{'steps':>7}{'layers':>10}{'tight':>10}{'attained':>10}{'certify s':>11}{'tight s':>9}")  # fmt: skip
    for width, size, stages in (
        *((16, 16, 1), (16, 32, 1), (16, 32, 2), (32, 16, 1), (32, 32, 1), (64, 16, 1)),
        (64, 32, 1),
    ):
        for count in (0, steps):
            torch.manual_seed(0)
            model, images = residual_network(width, stages), torch.rand(32, 3, size, size)
            if count:
                train(model, images, torch.arange(32) % 10, count)
            certificate, first = timed(lambda m=model, n=size: lipnets.certify(m, (3, n, n)))
            tight, second = timed(certificate.tightened)
            assert tight.tighter is not None
            assert certificate.program is not None
            below = attained_slope(certificate.program, images[:4].double(), steps=20)
            assert below <= tight.tighter.value
            print(f"{width:>6}{size:>6}{stages:>8}{count:>7}{certificate.lipschitz:>10.4g}{tight.tighter.value:>10.4g}{below:>10.3g}{first:>11.2f}{second:>9.2f}", flush=True)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=NAMES)
    parser.add_argument("--size", type=int, default=8, help="height and width of images")
    parser.add_argument("--steps", type=int, default=3, help="steps of training")
    parser.add_argument("--residual", action="store_true", help="plain residual networks")
    arguments = parser.parse_args()
    size = arguments.size
    print(f"{platform.machine()}, torch {torch.__version__}, {torch.get_num_threads()} threads")
    if arguments.residual:
        residual_networks(arguments.steps)
        return
    print(f"{'model':<18}{'steps':>6}{'layers':>11}{'tight':>11}{'attained':>10}{'certify s':>10}{'tight s':>9}  radii: layers, tight, local; local s")  # fmt: skip
    for prefix in arguments.names:
        name = next(each for each in sorted(models.names()) if each.startswith(prefix))
        for steps in (0, arguments.steps):
            torch.manual_seed(0)
            model = lipnets.create_model(name, img_size=size, in_chans=1, num_classes=10).eval()
            images = torch.rand(32, 1, size, size)
            if steps:
                train(model, images, torch.arange(32) % 10, steps)
            certificate, first = timed(lambda m=model: lipnets.certify(m, (1, size, size)))
            tight, second = timed(certificate.tightened)
            pairs = ~torch.eye(10, dtype=torch.bool)
            labels = certificate.predict(images)
            local, third = timed(lambda t=tight, y=labels, x=images: t.local_radii(x, y))
            radii = [c.radii(images, labels).median().item() for c in (certificate, tight)]
            means = [c.slopes[pairs].mean().item() for c in (certificate, tight)]
            assert certificate.program is not None
            below = attained(certificate.program, images[:8], pairs)
            print(
                f"{name:<18}{steps:>6}{means[0]:>11.4g}{means[1]:>11.4g}{below:>10.3g}{first:>10.2f}"
                f"{second:>9.2f}  {radii[0]:.3g}, {radii[1]:.3g}, {local.median().item():.3g}; {third:.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
