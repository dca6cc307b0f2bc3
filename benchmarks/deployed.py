"""Speed of the program that decides where it is sure: beside float32 and float64 alone.

    OMP_NUM_THREADS=1 python benchmarks/deployed.py [--out deployed.json]

The network and the images of `benchmarks/exact.py`.  One run, interleaved: each round runs every contender on the
same batch, so that what else the machine does meets all of them alike; figures are medians over
rounds of wall time, in ratio to the plain float32 forward of the same round.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import exact
import torch

import lipnets


def main() -> None:
    """Measures, and prints a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--conv", default="aol_conv2d", help="a layer by name")
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", type=Path, help="write records to this file")
    args = parser.parse_args()

    model, images, labels = exact.trained(args.conv, args.steps)
    certificate = lipnets.certify(model, exact.SHAPE)
    deployed = lipnets.Deployed(certificate)
    decision = deployed.decide(images)
    truth = certificate.logits(images).argmax(dim=1)
    print(
        f"as float64: {torch.equal(decision.predictions, truth)}; of {deployed.calls} images, ",
        end="",
    )
    print(
        f"{deployed.fallbacks} ({deployed.fallbacks / deployed.calls:.1%}) were left to it; ",
        end="",
    )
    print(f"{(truth == labels).float().mean():.1%} are right")
    print("\n| batch | float32 | Deployed | float64 |\n| ---: | ---: | ---: | ---: |")
    records = []
    for size in (1, 16, 128):
        contenders = {
            "float32": lambda batch: model(batch),
            "Deployed": deployed,
            "float64": lambda batch: certificate.logits(batch),
        }
        seconds: dict[str, list[float]] = {name: [] for name in contenders}
        with torch.no_grad():
            for index in range(args.rounds + 1):
                first = (index * size) % (len(images) - size)
                for name, run in contenders.items():
                    start = time.perf_counter()
                    run(images[first : first + size])
                    seconds[name].append(time.perf_counter() - start)
        ratios = {
            name: statistics.median(
                own / plain for own, plain in zip(each[1:], seconds["float32"][1:], strict=True)
            )
            for name, each in seconds.items()
        }
        each = statistics.median(seconds["float32"][1:]) / size
        told = f"{each * 1e3:.2f} ms"
        print(f"| {size} | {told} | {ratios['Deployed']:.2f} | {ratios['float64']:.2f} |")
        records.append({"batch": size, "milliseconds": each * 1e3, **ratios})
    if args.out:
        rate = decision.fast.logical_not().double().mean().item()
        found = {**exact.context(), "fallbacks": rate, "results": records}
        args.out.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
