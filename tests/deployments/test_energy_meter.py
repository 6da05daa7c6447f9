"""Joules where a meter can be read, and the reason where none can."""

from pathlib import Path

from deployments.energy_meter import NoMeter, RaplMeter, open_cpu_meter


def _write_package(powercap: Path, name: str, microjoules: int, full: int = 1_000_000) -> Path:
    package = powercap / name
    package.mkdir(parents=True, exist_ok=True)
    (package / "energy_uj").write_text(f"{microjoules}\n")
    (package / "max_energy_range_uj").write_text(f"{full}\n")
    return package


def test_packages_are_summed_and_their_parts_are_not_counted_twice(tmp_path: Path) -> None:
    _write_package(tmp_path, "intel-rapl:0", 100_000)
    _write_package(tmp_path, "intel-rapl:1", 200_000)
    _write_package(tmp_path, "intel-rapl:0:0", 50_000)
    meter = open_cpu_meter(tmp_path)
    assert isinstance(meter, RaplMeter)
    _write_package(tmp_path, "intel-rapl:0", 400_000)
    _write_package(tmp_path, "intel-rapl:1", 300_000)
    _write_package(tmp_path, "intel-rapl:0:0", 900_000)
    assert meter.read_joules() == 0.4


def test_a_counter_that_begins_again_goes_on(tmp_path: Path) -> None:
    _write_package(tmp_path, "intel-rapl:0", 900_000)
    meter = open_cpu_meter(tmp_path)
    assert isinstance(meter, RaplMeter)
    for counter in (100_000, 800_000, 300_000):
        _write_package(tmp_path, "intel-rapl:0", counter)
        meter.read_joules()
    assert meter.read_joules() == 0.2 + 0.7 + 0.5


def test_a_machine_without_counters_says_so(tmp_path: Path) -> None:
    meter = open_cpu_meter(tmp_path)
    assert isinstance(meter, NoMeter)
    assert str(tmp_path) in meter.reason


def test_a_counter_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    (_write_package(tmp_path, "intel-rapl:0", 1) / "energy_uj").write_text("none\n")
    meter = open_cpu_meter(tmp_path)
    assert isinstance(meter, NoMeter)
    assert "cannot be read" in meter.reason
