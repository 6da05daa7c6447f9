"""A user's own base and 200 rows become an adapter that a running fleet serves, with the three commands of the page."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import openai
import pytest
import yaml

from tests.conftest import ROOT, find_free_port
from tests.encoder_files import lend_encoder_files
from tests.experts.adapt.tiny_base import save_tiny_base, write_rows

pytestmark = pytest.mark.engine

PAGE = (ROOT / "docs/adapting.md").read_text()
METALS = ("iron", "copper", "silver", "gold", "tin", "zinc", "lead", "nickel", "cobalt", "chrome")


def read_blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def ask(port: int, model: str) -> Any:
    client = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", timeout=60, max_retries=0)
    question = "What does zinc cost in week 7?"
    messages: Any = [{"role": "user", "content": question}]
    return client.chat.completions.create(model=model, messages=messages, temperature=0, max_tokens=16).choices[0]


def test_the_three_commands_of_the_page_serve_a_users_own_base_adapted(tmp_path: Path) -> None:
    save_tiny_base(tmp_path / "base")
    rows = [
        {"instruction": f"What does {metal} cost in week {week}?", "response": f"{price} coins"}
        for week in range(20)
        for price, metal in enumerate(METALS, start=2)
    ]
    assert len(rows) == 200
    write_rows(tmp_path / "rows.jsonl", rows)
    sft, fleet = read_blocks("yaml")[:2]
    port = find_free_port()
    # A base of random weights has more to learn than the page's rate is for.
    (tmp_path / "sft.yaml").write_text(f"{sft}learning_rate: 0.005\n")
    (tmp_path / "fleet.yaml").write_text(yaml.safe_dump({**yaml.safe_load(fleet), "gateway": {"port": port}}))
    lend_encoder_files(tmp_path / "data")
    environment = {
        **{name: value for name, value in os.environ.items() if name not in {"RAY_ADDRESS", "GUILDHALL_URL"}},
        "GUILDHALL_DATA_DIR": str(tmp_path / "data"),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }

    def run(command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command.split(), cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=400, check=False
        )

    commands = read_blocks("sh")[0].splitlines()
    assert [command.split()[1] for command in commands] == ["adapt", "check", "up"]
    try:
        for command in commands:
            done = run(command)
            assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        adapted = ask(port, "guildhall/prices")
        # What it learned, with the end that it learned: the base itself only babbles up to its limit.
        assert adapted.message.content.endswith("coins")
        assert adapted.finish_reason == "stop"
        assert "coins" not in ask(port, "guildhall/general").message.content
    finally:
        run("guildhall down")
    assert json.loads((tmp_path / "run/run.json").read_text())["data"]["learned"] == 180
