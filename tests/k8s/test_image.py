"""Images hold what the lock says, and are what the pods expect."""

import re
import tomllib
from pathlib import Path

import pytest

from k8s.container_fleet import DATA, HOME
from k8s.image import compare_with_lock, main
from k8s.pods import CPU_IMAGE, CUDA_IMAGE, USER
from tests.conftest import ROOT

IMAGES = ROOT / "k8s" / "images"
LOCK = """\
# a comment
ray==2.60.0
torch==2.13.0+cpu
Foo_Bar==1.0 ; python_full_version >= '3.0'
only-there==1.0 ; sys_platform == 'win32'
"""
INSTALLED = {"ray": "2.60.0", "torch": "2.13.0+cpu", "foo-bar": "1.0"}


def test_what_equals_the_lock_has_no_differences() -> None:
    assert compare_with_lock(LOCK, {**INSTALLED, "pip": "25.0", "guildhall-serve": "0.1.0"}) == ()


@pytest.mark.parametrize(
    ("installed", "said"),
    [
        ({**INSTALLED, "ray": "2.59.0"}, "ray: 2.59.0 is installed, the lock has 2.60.0"),
        ({**INSTALLED, "torch": "2.13.0"}, "torch: 2.13.0 is installed, the lock has 2.13.0+cpu"),
        ({"ray": "2.60.0", "torch": "2.13.0+cpu"}, "foo-bar: the lock has 1.0, nothing is installed"),
        ({**INSTALLED, "kivy": "2.3"}, "kivy: 2.3 is installed, the lock does not have it"),
    ],
)
def test_another_version_a_missing_one_and_one_too_many_are_said(installed: dict[str, str], said: str) -> None:
    assert compare_with_lock(LOCK, installed) == (said,)


def test_the_build_of_an_image_ends_at_a_difference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lock = tmp_path / "some.lock"
    lock.write_text("no-such-package==1.0\n")
    assert main([str(lock)]) == 1
    assert "no-such-package: the lock has 1.0, nothing is installed" in capsys.readouterr().err


@pytest.mark.parametrize(("image", "lock"), [(CPU_IMAGE, "cpu"), (CUDA_IMAGE, "cuda")])
def test_a_dockerfile_installs_its_lock_whole_and_checks_it(image: str, lock: str) -> None:
    text = (IMAGES / f"{lock}.Dockerfile").read_text()
    assert f"--tag {image} ." in text
    assert re.findall(r"requirements/(\w+)\.lock", text) == [lock] * len(re.findall(r"requirements/\w+\.lock", text))
    installs = [line for line in text.splitlines() if "pip install" in line]
    # The lock is complete, so nothing may be resolved anew.
    assert installs
    assert all("--no-deps" in line for line in installs)
    assert text.index("--requirement") < text.index("python -m k8s.image")
    assert (ROOT / "requirements" / f"{lock}.lock").is_file()


@pytest.mark.parametrize("lock", ["cpu", "cuda"])
def test_a_dockerfile_has_the_user_and_the_folders_of_the_pods_and_a_python_that_guildhall_takes(lock: str) -> None:
    text = (IMAGES / f"{lock}.Dockerfile").read_text()
    assert f"--uid {USER} " in text
    assert f"{HOME} {DATA}" in text
    assert f"WORKDIR {HOME}" in text
    (python,) = re.findall(r"^FROM python:(3\.\d+)-", text, re.M)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    least, below = re.findall(r"3\.(\d+)", project["requires-python"])
    assert int(least) <= int(python.removeprefix("3.")) < int(below)
