"""The config file: paths relative to it, every mistake at once with its line and the way to mend it."""

from pathlib import Path

import pytest

from experts.adapt.config import SftConfig, read_config
from experts.errors import ConfigurationError


def write(folder: Path, text: str) -> Path:
    path = folder / "sft.yaml"
    path.write_text(text)
    return path


def read_mistakes(folder: Path, text: str) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        read_config(write(folder, text), SftConfig)
    return str(caught.value).splitlines()[1:]


def test_paths_are_relative_to_the_file_and_hub_ids_stay(tmp_path: Path) -> None:
    config = read_config(write(tmp_path, "base: ./b\ndata: d.jsonl\noutput: ../run\n"), SftConfig)
    assert (config.base, config.data) == (str(tmp_path / "b"), tmp_path / "d.jsonl")
    assert config.output == tmp_path.parent / "run"
    hub = read_config(write(tmp_path, "base: Qwen/Qwen3-0.6B\ndata: d.jsonl\noutput: run\n"), SftConfig)
    assert hub.base == "Qwen/Qwen3-0.6B"


def test_the_rate_follows_the_method_where_none_is_given(tmp_path: Path) -> None:
    text = "base: ./b\ndata: d\noutput: run\n"
    assert read_config(write(tmp_path, text), SftConfig).peak_learning_rate == 2e-4
    assert read_config(write(tmp_path, f"{text}method: full\n"), SftConfig).peak_learning_rate == 2e-5
    assert read_config(write(tmp_path, f"{text}learning_rate: 0.01\n"), SftConfig).peak_learning_rate == 0.01


def test_all_mistakes_are_named_with_their_lines(tmp_path: Path) -> None:
    mistakes = read_mistakes(tmp_path, "base: ./b\nouptut: run\nepochs: many\nlora:\n  rnk: 8\n")
    assert any(
        m.startswith("ouptut (line 2): found an unknown key") and "did you mean 'output'?" in m for m in mistakes
    )
    assert any(m.startswith("epochs (line 3): found 'many'") for m in mistakes)
    assert any(m.startswith("lora.rnk (line 5)") and "did you mean 'rank'?" in m for m in mistakes)
    assert any(m.startswith("data (line 1): found nothing; this key is needed") for m in mistakes)


def test_text_is_no_number_and_a_list_no_config(tmp_path: Path) -> None:
    (mistake,) = read_mistakes(tmp_path, 'base: ./b\ndata: d\noutput: run\nseed: "1"\n')
    assert mistake.startswith("seed (line 4): found '1'")
    assert "needed keys: base, data, output" in read_mistakes(tmp_path, "- base\n")[0]
    assert "empty file" in read_mistakes(tmp_path, "")[0]
    assert "no YAML" in read_mistakes(tmp_path, "base: [\n")[0]


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"none\.yaml: cannot be read \(No such file"):
        read_config(tmp_path / "none.yaml", SftConfig)
