"""What a run's processors and GPUs use, where the machine tells it to everybody."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")
ALONE = 0.9  # share of the processor time that has to be a run's own for its energy to be told


@dataclass
class _Counter:
    """An energy counter of the machine.

    Args:
        name: such as "package-0" or "GPU 0".
        kind: of device, "cpu" or "gpu".
        read: joules since some moment; raises where they cannot be told.
        around: joules after which it starts again from 0; None where it does not.
    """

    name: str
    kind: str
    read: Callable[[], float]
    around: float | None = None
    last: float = 0.0
    used: float = 0.0

    def look(self) -> None:
        now = self.read()
        grown = now - self.last
        self.used += grown + (self.around or 0.0) if grown < 0 else grown
        self.last = now


class Energy:
    """What the machine's processors and GPUs use while a block runs other programs.

    Read from counters that need no special rights: Intel's and AMD's RAPL below /sys where they
    are open to all, and NVIDIA's through pynvml where that is installed. They count for the whole
    machine, so nothing is said where others were at work meanwhile.

    Args:
        powercap: where Linux shows RAPL.
        every: seconds between two looks; a counter that starts from 0 again must not do it twice.
    """

    def __init__(self, powercap: Path = POWERCAP, every: float = 60.0) -> None:
        self._counters = [*_processors(powercap), *_gpus()]
        self._every = every
        self._before = self._after = (0.0, 0.0)
        self._end = threading.Event()
        self._looking = threading.Thread(target=self._look_again, daemon=True)

    def __enter__(self) -> Energy:
        self._before = _processor_seconds()
        for counter in list(self._counters):
            try:
                counter.last = counter.read()
            except Exception:  # of a driver
                self._counters.remove(counter)
        if self._counters:
            self._looking.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        if self._looking.is_alive():
            self._looking.join()
        self._look()
        self._after = _processor_seconds()

    def used(self, kind: str) -> dict:
        """For `device`: joules, and the counters that told; empty where they are not known.

        Args:
            kind: of device that computed, "cpu" or "gpu"; a GPU's processors count, too.
        """
        own, every = (
            after - before for before, after in zip(self._before, self._after, strict=True)
        )
        if own < ALONE * every:
            return {}
        told = [counter for counter in self._counters if counter.kind in ("cpu", kind)]
        if kind not in {counter.kind for counter in told}:
            return {}
        names = [counter.name for counter in told]
        return {"joules": sum(counter.used for counter in told), "joules_of": names}

    def _look_again(self) -> None:
        while not self._end.wait(self._every):
            self._look()

    def _look(self) -> None:
        for counter in list(self._counters):
            try:
                counter.look()
            except Exception:  # what was not seen to its end is not known
                self._counters.remove(counter)


def _processor_seconds() -> tuple[float, float]:
    """Processor time of the programs that this process started, and of all there are."""
    times = os.times()
    try:
        with open("/proc/stat") as file:
            ticks = list(map(int, file.readline().split()[1:9]))
    except (OSError, ValueError):
        return 0.0, time.monotonic()  # not known: as if all of it were others'
    user, nice, system, _, _, irq, soft, _ = ticks  # not idle, not waiting, not another guest's
    every = (user + nice + system + irq + soft) / os.sysconf("SC_CLK_TCK")
    return times.children_user + times.children_system, every


def _processors(powercap: Path) -> list[_Counter]:
    """RAPL's packages; what lies below them is counted in them."""
    found = []
    for zone in sorted(powercap.glob("*-rapl:*")):
        try:
            name = (zone / "name").read_text().strip()
            if name.startswith("package"):
                around = int((zone / "max_energy_range_uj").read_text()) / 1e6
                found.append(_Counter(name, "cpu", partial(_microjoules, zone), around))
        except (OSError, ValueError):
            continue
    return found


def _microjoules(zone: Path) -> float:
    return int((zone / "energy_uj").read_text()) / 1e6


def _gpus() -> list[_Counter]:
    try:
        nvml = import_module("pynvml")
        nvml.nvmlInit()
        handles = [nvml.nvmlDeviceGetHandleByIndex(k) for k in range(nvml.nvmlDeviceGetCount())]
    except Exception:  # not installed, no driver, no GPU
        return []

    def joules(handle: object) -> float:
        return nvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1000

    return [_Counter(f"GPU {k}", "gpu", partial(joules, found)) for k, found in enumerate(handles)]
