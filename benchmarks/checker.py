"""How long a certificate file takes to be written, and to be checked with numpy.

    OMP_NUM_THREADS=1 python benchmarks/checker.py [--images 1000] [--program exact]

Twelve layers with weights, nine convolutions and three matrices, on random images of 3 × 32 × 32.
Seconds are of processors.
"""

import argparse
import tempfile
import time
from pathlib import Path

import torch
from torch import nn

import lipnets
from lipnets import verify
from lipnets.layers import MaxMin

SHAPE = (3, 32, 32)
CHANNELS = [(16, 1), (16, 1), (16, 1), (32, 2), (32, 1), (32, 1), (64, 2), (64, 1), (64, 1)]


def network() -> nn.Sequential:
    """Convolutions with strides, sorts, a maximum pool and three matrices."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    inputs = SHAPE[0]
    for outputs, stride in CHANNELS:
        layer = nn.Conv2d(inputs, outputs, 3, stride, 1)
        nn.init.orthogonal_(layer.weight)
        layers += [layer, MaxMin()]
        inputs = outputs
    layers += [nn.MaxPool2d(2), nn.Flatten(), nn.Linear(1024, 256), MaxMin()]
    layers += [nn.Linear(256, 128), MaxMin(), nn.Linear(128, 10)]
    return nn.Sequential(*layers).eval()


def main() -> None:
    parser = argparse.ArgumentParser(description="Times certificate files and their checker.")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--program", default="float64", choices=["float64", "exact"])
    given = parser.parse_args()
    model = lipnets.export(network(), SHAPE, program=given.program)
    images = torch.randint(256, (given.images, *SHAPE)).float() / 255
    certificate = lipnets.certify(model, SHAPE)
    labels = torch.cat([certificate.logits(batch) for batch in images.split(100)]).argmax(dim=1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "certificate.npz"
        start = time.process_time()
        certificate.save(path, images, labels)
        saved = time.process_time()
        status = verify.main([str(path)])
        checked = time.process_time()
        size = path.stat().st_size / 1e6
    print(f"{given.program}: {size:.1f} MB, written in {saved - start:.1f} s, ", end="")
    print(f"{'proved' if status == 0 else 'NOT proved'} in {checked - saved:.1f} s")


if __name__ == "__main__":
    main()
