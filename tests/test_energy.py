"""Energy is told where it is a run's own, and the counters can be read."""

import shutil
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest

from fer_utils import energy as counters
from fer_utils import provenance


class Machine:
    """RAPL as Linux shows it, with two processors and the cores of one, and who has used them."""

    def __init__(self, folder, monkeypatch):
        self.folder, self.seconds = folder, (0.0, 0.0)
        for zone, name in (
            ("intel-rapl:0", "package-0"),
            ("intel-rapl:0:0", "core"),
            ("intel-rapl:1", "package-1"),
            ("intel-rapl:2", "psys"),
        ):
            (folder / zone).mkdir()
            (folder / zone / "name").write_text(f"{name}\n")
            (folder / zone / "max_energy_range_uj").write_text("10000000\n")
            self.count(zone, 0)
        monkeypatch.setattr(counters, "_processor_seconds", lambda: self.seconds)
        monkeypatch.setitem(sys.modules, "pynvml", None)

    def count(self, zone, joules):
        new = self.folder / "new"  # in one step: somebody may be reading
        new.write_text(f"{joules * 10**6:.0f}\n")
        new.replace(self.folder / zone / "energy_uj")

    def meter(self, **options):
        return counters.Energy(self.folder, **options)


@pytest.fixture
def machine(tmp_path, monkeypatch):
    return Machine(tmp_path, monkeypatch)


def test_energy_is_what_all_processors_used_and_nothing_twice(machine):
    machine.count("intel-rapl:0", 3)
    with machine.meter() as energy:
        machine.count("intel-rapl:0", 5)
        machine.count("intel-rapl:0:0", 1.5)
        machine.count("intel-rapl:1", 4)
        machine.count("intel-rapl:2", 9)
        machine.seconds = (99.0, 100.0)
    assert energy.used("cpu") == {"joules": 6.0, "joules_of": ["package-0", "package-1"]}
    assert energy.used("gpu") == {}


def test_a_counter_that_starts_again_goes_on(machine):
    with machine.meter() as energy:
        for joules in (8, 2, 7, 1):
            machine.count("intel-rapl:0", joules)
            energy._look()
    assert energy.used("cpu")["joules"] == 21


def test_a_long_run_is_looked_at_again_and_again(machine):
    with machine.meter(every=0.001) as energy:
        (counter, *_) = energy._counters
        for joules in (8, 2):  # would be 2 if it were looked at in the end alone
            machine.count("intel-rapl:0", joules)
            deadline = time.monotonic() + 60
            while counter.last != joules:
                assert time.monotonic() < deadline
                time.sleep(0.001)
    assert energy.used("cpu")["joules"] == 12


def test_energy_that_others_shared_is_not_told(machine):
    with machine.meter() as energy:
        machine.count("intel-rapl:0", 5)
        machine.seconds = (50.0, 100.0)
    assert energy.used("cpu") == {}


@pytest.mark.parametrize("broken", ["absent", "closed", "closed later", "no number"])
def test_counters_that_cannot_be_read_are_not_known(machine, broken):
    zones = ("intel-rapl:0", "intel-rapl:1")

    def spoil():
        for zone in zones:
            path = machine.folder / zone / "energy_uj"
            path.unlink()
            if broken == "no number":
                path.write_text("unknown")

    if broken == "absent":
        shutil.rmtree(machine.folder)
    elif broken != "closed later":
        spoil()
    with machine.meter() as energy:
        if broken == "closed later":
            spoil()
    assert energy.used("cpu") == {}


def test_a_gpu_counts_for_what_it_computed(machine, monkeypatch):
    counted = iter([1_000, 4_500])
    nvml = SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlDeviceGetCount=lambda: 1,
        nvmlDeviceGetHandleByIndex=lambda k: k,
        nvmlDeviceGetTotalEnergyConsumption=lambda handle: next(counted),
    )
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    with machine.meter() as energy:
        machine.count("intel-rapl:1", 2)
    assert energy.used("gpu") == {
        "joules": 5.5,
        "joules_of": ["package-0", "package-1", "GPU 0"],
    }
    assert energy.used("cpu")["joules"] == 2


def test_processor_time_of_programs_is_counted_when_they_have_ended():
    own, every = counters._processor_seconds()
    subprocess.run([sys.executable, "-c", "sum(range(10**7))"], check=True)
    own_then, every_then = counters._processor_seconds()
    assert own_then > own
    assert every_then > every


def test_energy_joins_the_record_of_a_run_trained_in_one_go(make_record, machine, monkeypatch):
    monkeypatch.syspath_prepend(Path(provenance.SOURCE) / "tools")
    train = import_module("train")
    record = make_record()
    with machine.meter() as energy:
        machine.count("intel-rapl:0", 5)
    for this_call, joules in ((2.0, 5.0), (1.0, None)):
        timings = {"training": 1.25, "this_call": this_call}
        made = record.model_copy(update={"timings": timings})
        told = train.with_energy(made, energy)
        assert told.device.get("joules") == joules
        of_two_calls = {"kind": "cpu", "calls": [record.device, record.device]}
        begun_elsewhere = made.model_copy(update={"device": of_two_calls})
        assert train.with_energy(begun_elsewhere, energy).device == of_two_calls
        assert told.device["kind"] == "cpu"
        assert told.metrics == record.metrics
