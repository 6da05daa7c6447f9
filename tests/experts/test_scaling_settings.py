"""How the fleet file says what replicas follow, and what it is told when it says it wrongly."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from experts.fleet_file import check_fleet

WINDOW = {"name": "earnings season", "replicas": 3, "start": "15:30", "end": "22:30", "time_zone": "America/New_York"}


def check(folder: Path, engine_scaling: dict[str, Any], **top: Any) -> tuple[str, ...]:
    file = folder / "fleet.yaml"
    document = {
        "name": "office",
        "engines": {"small": {"model": "a/b", "replicas": {"max": 4}, "scaling": engine_scaling}},
        "domains": {"all": {"description": "Everything there is.", "variants": {"full": {"engine": "small"}}}},
        "generalist": "all",
        "nodes": {"one": {"cpus": 4, "memory_gib": 1}},
        **top,
    }
    file.write_text(yaml.safe_dump(document))
    return check_fleet(file).mistakes


def test_all_policies_of_an_engine_and_the_fleets_caps_can_be_written(tmp_path: Path) -> None:
    scaling = {
        "priority": 2,
        "hold_s": 60,
        "load": {"kv_use": 0.8, "waiting_tokens": 4096},
        "schedule": [{**WINDOW, "days": ["mon", "fri"], "first_day": "2027-01-11", "last_day": "2027-02-12"}],
        "forecast": {"quantile": 0.95},
    }
    assert check(tmp_path, scaling, scaling={"max_gpus": 4, "max_cpus": 8}) == ()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"time_zone": "Europe/Berlim"}, "known: the names of the IANA time zone database"),
        ({"first_day": "2027-02-30"}, "allowed: days of the calendar"),
        ({"first_day": "2027-02-12", "last_day": "2027-01-11"}, "first_day is 2027-02-12"),
        ({"replicas": 9}, "replicas.max is 4"),
        ({"days": []}, "it would never begin"),
        ({"start": "25:00"}, "schedule"),
    ],
)
def test_a_window_that_cannot_be_meant_is_a_mistake_with_a_remedy(
    tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    mistakes = check(tmp_path, {"schedule": [{**WINDOW, **changes}]})
    assert len(mistakes) == 1
    assert says in mistakes[0]
    assert f"engines.small.scaling.schedule.0.{list(changes)[-1]}" in mistakes[0]
