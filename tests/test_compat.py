"""torchvision and timm import, whatever build of torch there is: in a process of their own."""

import subprocess
import sys


def run(code: str) -> str:
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_timm_imports_and_builds_an_optimizer_after_the_shim() -> None:
    code = """
from lipnets.compat import ensure_torchvision
assert ensure_torchvision() and ensure_torchvision()  # the second call changes nothing
import timm, torchvision, torch
model = timm.create_model("resnet10t", num_classes=3).eval()
print(tuple(model(torch.rand(1, 3, 32, 32)).shape))
"""
    assert run(code) == "(1, 3)"


def test_torchvision_that_is_not_installed_is_said_to_be_absent() -> None:
    code = """
import sys
sys.modules["torchvision"] = None  # the import then fails as if nothing were installed
from lipnets.compat import ensure_torchvision
print(ensure_torchvision())
"""
    assert run(code) == "False"


def test_the_package_itself_imports_without_timm() -> None:
    code = """
import sys
import lipnets.bounds, lipnets.certify, lipnets.losses, lipnets.optim, lipnets.training
print("timm" in sys.modules, "torchvision" in sys.modules)
"""
    assert run(code) == "False False"
