"""What each probe of an evaluation costs, beside running the network once on the same images.

    OMP_NUM_THREADS=1 python benchmarks/evaluator.py RUN [--data-dir DIR] [--preset quick|full|default]

Prints a table for benchmarks/README.md: CPU seconds of each probe, and how many times that is the time of
the certified program on all test images, measured in the same process before and after the probe.
"""

import argparse
import tempfile
import time
from pathlib import Path

from lipnets import probes
from lipnets.evaluation import Examination, open_target
from lipnets.probes import PRESETS


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", help="a run directory, or what else evaluate.py takes")
    parser.add_argument("--data", help="the data set (default: that of the run)")
    parser.add_argument("--data-dir", help="the directory with the files of data sets")
    parser.add_argument("--preset", choices=("quick", "full", "default"), default="quick")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        target = open_target(
            args.run, data_name=args.data, data_dir=args.data_dir, out=Path(directory)
        )
        examination = Examination(target, data_dir=target.data_dir)
        before = time.process_time()
        subject = examination.subject
        started = time.process_time() - before
        print(f"{target.title} on {len(subject)} test images of {target.dataset.name}")
        passes = min(_pass(subject), _pass(subject))
        print("\n| probe | CPU seconds | passes |\n|---|---:|---:|")
        print(
            f"| certificate, logits and radii of all images | {started:.1f} | {started / passes:.1f} |"
        )
        for name in probes.ORDER:
            settings = PRESETS.get(name, {}).get(args.preset, {})
            before = time.process_time()
            examination.examine({name: settings})
            seconds = time.process_time() - before
            print(f"| {name} | {seconds:.1f} | {seconds / passes:,.1f} |", flush=True)


def _pass(subject: probes.Subject) -> float:
    """The CPU seconds of the certified program on all images."""
    before = time.process_time()
    subject.run(subject.images)
    return time.process_time() - before


if __name__ == "__main__":
    main()
