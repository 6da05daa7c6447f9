"""A run's folder: aside until finished, taken up again only by the same run."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from experts.adapt.curves import smooth
from experts.adapt.run_folder import RunFolder, open_run
from experts.errors import ConfigurationError


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "sft.yaml"
    path.write_text("seed: 1\n")
    return path


def begin(config: Path, restart: bool = False, **settings: object) -> RunFolder:
    return open_run(config.parent / "runs/one", config, {"seed": 1, **settings}, restart)


def test_a_finished_run_appears_whole_and_its_notes_are_gone(config: Path) -> None:
    run = begin(config)
    run.log(1, loss=2.5)
    run.artifact("adapter").joinpath("weights").write_text("w")
    (run.checkpoints / "checkpoint-1").mkdir(parents=True)
    run.draw_curves("a run")
    run.write_card("One", {"Data": "rows"})
    assert not run.output.exists()
    folder = run.finish({"seed": 1})
    assert folder == run.output
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md",
        "adapter",
        "config.yaml",
        "curves.png",
        "log.jsonl",
        "run.json",
    ]
    assert (folder / "README.md").read_text() == "# One\n\n## Data\n\nrows\n"
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((folder / "run.json").read_text())["versions"]["torch"]
    assert not run.aside.exists()


def test_an_unfinished_run_is_taken_up_by_the_same_settings_only(config: Path) -> None:
    begin(config).log(1, loss=2.5)
    assert begin(config).read_log() == [{"step": 1, "loss": 2.5}]
    with pytest.raises(ConfigurationError, match=r"unfinished run with another epochs, seed"):
        begin(config, seed=2, epochs=3)
    assert begin(config, restart=True, seed=2).read_log() == []


def test_a_finished_run_is_replaced_only_when_asked_and_once_the_new_one_is_whole(config: Path) -> None:
    run = begin(config)
    run.finish({"try": 1})
    with pytest.raises(ConfigurationError, match=r"--restart"):
        begin(config)
    again = begin(config, restart=True)
    assert json.loads((again.output / "run.json").read_text())["try"] == 1
    again.finish({"try": 2})
    assert json.loads((again.output / "run.json").read_text())["try"] == 2
    assert [path.name for path in again.output.parent.iterdir()] == ["one"]


def test_a_line_that_a_kill_cut_short_is_no_line_and_a_rewound_log_is_said_again(config: Path) -> None:
    run = begin(config)
    for step in (1, 2, 3):
        run.log(step, loss=float(step))
    with (run.aside / "log.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')
    assert [line["step"] for line in run.read_log()] == [1, 2, 3]
    run.rewind_log(2)
    run.log(3, loss=9.0)
    assert [line["loss"] for line in run.read_log()] == [1.0, 2.0, 9.0]


def test_notes_are_kept_until_the_run_is_finished(config: Path) -> None:
    run = begin(config)
    assert run.read_note("before") is None
    run.note("before", {"held_out": 0.5})
    assert run.read_note("before") == {"held_out": 0.5}


def test_a_curve_is_smoothed_over_what_came_before() -> None:
    assert smooth([3.0]) == [3.0]
    assert smooth([float(n) for n in range(60)])[:4] == [0.0, 0.5, 1.0, 2.0]


@pytest.mark.parametrize("restart", [False, True])
def test_a_run_that_another_process_is_at_is_left_to_it_until_that_one_dies(config: Path, restart: bool) -> None:
    program = (
        "import sys, pathlib\n"
        "from experts.adapt.run_folder import open_run\n"
        "config = pathlib.Path(sys.argv[1])\n"
        "run = open_run(config.parent / 'runs/one', config, {'seed': 1}, restart=False)\n"
        "run.log(1, loss=2.5)\n"
        "print('at it', flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(config)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "at it\n"
        with pytest.raises(ConfigurationError, match=r"one\.unfinished is the run of another process"):
            begin(config, restart=restart)
        assert RunFolder(config.parent / "runs/one").read_log() == [{"step": 1, "loss": 2.5}]
        other.kill()
    assert begin(config, restart=restart).read_log() == ([] if restart else [{"step": 1, "loss": 2.5}])
