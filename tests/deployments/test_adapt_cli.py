"""`guildhall adapt` as it is called: exit codes, JSON on standard output, all else on standard error."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from deployments.cli_adapt import adapt_app
from experts.adapt import sft
from experts.adapt.examine import DataCheck, Finding
from experts.adapt.progress import Progress
from experts.adapt.sft import SftReport

CHECK = DataCheck(3, 1, (Finding("broken", "rows.jsonl", 2, "'response' is empty"),), (), (), 0)


def call(*arguments: str) -> Result:
    return CliRunner().invoke(adapt_app, list(arguments))


def lend_report(monkeypatch: pytest.MonkeyPatch, report: SftReport) -> None:
    def run_sft(config: Path, progress: Progress, restart: bool) -> SftReport:
        return report

    monkeypatch.setattr(sft, "run_sft", run_sft)


def test_a_published_adapter_is_shown_with_how_to_serve_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    artifact = tmp_path / "run/adapter"
    lend_report(monkeypatch, SftReport("published", "all right", CHECK, artifact.parent, artifact, {"seed": 7}))
    done = call("sft", "sft.yaml")
    assert done.exit_code == 0
    assert f"adapter: {artifact}" in done.stdout
    described = json.loads(call("sft", "sft.yaml", "--json").stdout)
    assert (described["artifact"], described["seed"], described["outcome"]) == (str(artifact), 7, "published")


def test_refused_data_is_bad_input_and_the_check_is_in_the_json(monkeypatch: pytest.MonkeyPatch) -> None:
    lend_report(monkeypatch, SftReport("data refused", "rows.jsonl line 2: broken", CHECK))
    done = call("sft", "sft.yaml", "--json")
    assert done.exit_code == 2
    assert "rows.jsonl line 2: broken" in done.stderr
    check = json.loads(done.stdout)["check"]
    assert check["broken"] == 1
    assert check["findings"][0] == {
        "kind": "broken",
        "file": "rows.jsonl",
        "line": 2,
        "detail": "'response' is empty",
    }


def test_what_forgot_too_much_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    lend_report(monkeypatch, SftReport("forgotten", "90.0% before, 50.0% after", CHECK))
    done = call("sft", "sft.yaml")
    assert done.exit_code == 1
    assert "90.0% before, 50.0% after" in done.stderr
    assert done.stdout == ""


def test_a_wrong_config_is_bad_input(tmp_path: Path) -> None:
    config = tmp_path / "sft.yaml"
    config.write_text("base: ./base\n")
    done = call("sft", str(config))
    assert done.exit_code == 2
    assert "data (line 1): found nothing" in done.stderr


def test_evaluate_takes_either_a_config_or_two_runs(tmp_path: Path) -> None:
    for arguments in ((), ("evaluate.yaml", "--compare", "a", "b")):
        done = call("evaluate", *arguments)
        assert done.exit_code == 2
        assert "name either a CONFIG to evaluate or --compare" in done.stderr


@pytest.mark.parametrize("verb", ["sft", "distill", "quantize", "evaluate"])
def test_every_verb_names_a_config_that_is_not_there(verb: str, tmp_path: Path) -> None:
    done = call(verb, str(tmp_path / "none.yaml"))
    assert done.exit_code == 2, done.output
    assert "none.yaml" in done.stderr
