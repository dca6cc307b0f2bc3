"""What rounding costs a certificate: float64, the exact program and float32 on one trained network.

    OMP_NUM_THREADS=1 python benchmarks/exact.py [--out exact.json]

Ten layers with weights, 3 × 32 × 32, trained for some steps on handwritten digits (sklearn), enlarged: what is
measured are magnitudes of rounding, which depend on depth, width and norms, and not accuracy.  The
radius that an image would have if nothing were rounded is compared with the one that is certified.
For the exact program that is the radius of the network before weights were rounded: what
rounded weights cost is part of its loss.
"""

import argparse
import json
import platform
import subprocess
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import lipnets
from lipnets.layers import MaxMin, build

SHAPE = (3, 32, 32)


def main() -> None:
    """Measures, and prints a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--conv", default="aol_conv2d", help="a layer by name")
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--out", type=Path, help="write records to this file")
    args = parser.parse_args()

    model, images, labels = trained(args.conv, args.steps)
    start = time.perf_counter()
    certificate = lipnets.certify(model, SHAPE)
    print(f"certified in {time.perf_counter() - start:.2f} s, bound {certificate.lipschitz:.8f}")
    start = time.perf_counter()
    program = lipnets.export(model, SHAPE, program="exact")
    exact = lipnets.certify(program, SHAPE)
    print(f"exact program in {time.perf_counter() - start:.2f} s, bound {exact.lipschitz:.8f}")
    places = [module.bits for module in program.modules() if hasattr(module, "bits")]
    print(f"binary places of activations: {places}")

    logits = certificate.logits(images)
    right = logits.argmax(dim=1) == labels
    ideal = certificate.unrounded(logits, labels)
    found = {
        "float64": certificate.radii(images, labels),
        "exact": exact.radii(images, labels),
        "float32": certificate.radii(images, labels, arithmetic="float32"),
        "tf32": certificate.radii(images, labels, arithmetic="tf32"),
    }
    print(
        f"{right.float().mean():.1%} of {len(images)} right, median radius {ideal[right].median():.3g}"
    )
    print(
        "\n| program | radius lost, median | 90 % | certified at 36/255 |\n| --- | --- | --- | --- |"
    )
    records = []
    for name, radii in found.items():
        lost = ((ideal - radii) / ideal)[right]
        share = (radii > 36 / 255).double().mean().item()
        quantiles = [lost.quantile(q).item() for q in (0.5, 0.9)]
        print(f"| {name} | {quantiles[0]:.1e} | {quantiles[1]:.1e} | {share:.1%} |")
        records.append({"program": name, "median": quantiles[0], "90%": quantiles[1], "cra": share})
    single = torch.cat([exact.logits(image[None]) for image in images[:64]])
    same = torch.equal(single, exact.logits(images[:64]))
    plain = torch.cat([certificate.logits(image[None]) for image in images[:64]])
    differ = (plain - certificate.logits(images[:64])).abs().max().item()
    print(
        f"\nlogits one by one and in a batch of 64: exact the same {same}, float64 {differ:.1e} apart"
    )
    if args.out:
        args.out.write_text(
            json.dumps({**context(), "conv": args.conv, "results": records}, indent=1)
        )


def network(conv: str) -> nn.Sequential:
    """Eight convolutions and two dense layers."""
    sizes = [(3, 16), (16, 16), (64, 32), (32, 32), (32, 32), (128, 64), (64, 64), (64, 64)]
    layers: list[nn.Module] = []
    for index, (inputs, outputs) in enumerate(sizes):
        if index in (2, 5):
            layers.append(nn.PixelUnshuffle(2))
        layers += [
            build(conv, in_channels=inputs, out_channels=outputs, kernel_size=3, padding=1),
            MaxMin(),
        ]
    layers += [nn.MaxPool2d(2), nn.Flatten()]
    layers += [build("aol_linear", in_features=1024, out_features=256), MaxMin()]
    return nn.Sequential(*layers, nn.Linear(256, 10))


def trained(conv: str = "aol_conv2d", steps: int = 250) -> tuple[nn.Module, Tensor, Tensor]:
    """A network that was trained on digits, its test images and their labels."""
    from sklearn.datasets import load_digits

    torch.manual_seed(0)
    digits = load_digits()
    images = torch.from_numpy(digits.images).float()[:, None] / 16
    images = F.interpolate(images, 32, mode="bilinear").clamp(0, 1).repeat(1, 3, 1, 1)
    labels = torch.from_numpy(digits.target).long()
    order = torch.randperm(len(images))
    images, labels = images[order], labels[order]
    model = network(conv)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for step in range(steps):
        batch = torch.randint(1347, (32,))
        logits = model(images[batch])
        wanted = F.one_hot(labels[batch], 10)
        loss = F.cross_entropy(8 * (logits - 0.3 * wanted), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 50 == 0:
            print(f"step {step}: loss {loss.item():.3f}", flush=True)
    return lipnets.export(model, SHAPE), images[1347:], labels[1347:]


def context() -> dict[str, str]:
    """Where and with what it was measured."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return {
        "commit": commit.stdout.strip(),
        "torch": torch.__version__,
        "machine": f"{platform.machine()}, {torch.get_num_threads()} thread",
    }


if __name__ == "__main__":
    main()
