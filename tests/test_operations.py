"""What the page about operations tells people to type is what the programs take."""

import re
import shlex

import click.testing
import pytest
import typer.testing
from ray.scripts.scripts import cli as ray_cli

from deployments.cli import app
from tests.conftest import ROOT

PAGE = (ROOT / "docs/operations.md").read_text()


def list_commands() -> list[str]:
    """Every line of a shell block and every quoted command of the text; what `ray exec` carries is a command too."""
    shown = [line.strip() for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
    shown += re.findall(r"`((?:guildhall|ray) [^`]+)`", PAGE)
    carried = [
        command.rpartition("&& ")[2].removeprefix("RAY_ADDRESS=auto ")
        for line in shown
        for command in re.findall(r"ray exec \S+ '(.*)'", line)
    ]
    return sorted({" ".join(re.sub(r"\s+#.*|\s+>.*", "", command).split()) for command in [*shown, *carried]})


def ask_for_help(command: str) -> int:
    """The exit code of a command with `--help` behind it: what it cannot parse it refuses, and it runs nothing."""
    program, *arguments = shlex.split(command)
    if program == "ray":
        return click.testing.CliRunner().invoke(ray_cli, [*arguments, "--help"]).exit_code
    return typer.testing.CliRunner().invoke(app, [*arguments, "--help"]).exit_code


@pytest.mark.parametrize("command", [one for one in list_commands() if one.startswith(("guildhall ", "ray "))])
def test_every_command_that_the_page_names_is_one_that_its_program_takes(command: str) -> None:
    assert ask_for_help(command) == 0


@pytest.mark.parametrize(
    "command", ["guildhall rendr k8s", "guildhall render k8s fleet.yaml --oot x", "ray up cluster.yaml --yess"]
)
def test_a_misspelt_command_would_be_found(command: str) -> None:
    assert ask_for_help(command) == 2
