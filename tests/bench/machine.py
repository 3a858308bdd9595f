"""The machine of a run: what it is, how busy others keep it, and how fast it is right now."""

import json
import os
import pathlib
import platform
import re
import subprocess
import time

TICKS = os.sysconf("SC_CLK_TCK")
# Imports what sessions are forked from, and forks as the keeper does, without walls.
FORK_PROGRAM = """
import gc, json, os, sys, time
for name in sys.argv[2:]:
    try:
        __import__(name)
    except ImportError:
        pass
gc.collect()
gc.freeze()
times = []
for i in range(int(sys.argv[1])):
    start = time.perf_counter()
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    forked = time.perf_counter()
    os.waitpid(pid, 0)
    times.append((forked - start, time.perf_counter() - start))
fork, whole = zip(*times)
rss = int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
middle = len(times) // 2
print(json.dumps({"fork_ms": sorted(fork)[middle] * 1e3, "p50_ms": sorted(whole)[middle] * 1e3,
                  "image_mb": rss / 1e6}))
"""


def facts(carrel):
    """What a reader must know to compare two runs."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "memory_mb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e6),
        "kernel": platform.release(),
        "system": _first_line("/etc/debian_version"),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "versions": {
            "carrel": _output([str(carrel), "version"]),
            "python": platform.python_version(),
            **{name: _package(name) for name in (
                "python3-numpy", "python3-pandas", "python3-matplotlib", "python3-scipy",
                "python3-sklearn", "jupyter-server", "python3-ipykernel", "bubblewrap", "nginx")},
        },
    }


def _cpu_model():
    text = pathlib.Path("/proc/cpuinfo").read_text()
    found = re.search(r"^model name\s*:\s*(.*)$", text, re.MULTILINE)
    return found.group(1) if found else platform.machine()


def _first_line(path):
    try:
        return "Debian " + pathlib.Path(path).read_text().split("\n")[0]
    except OSError:
        return platform.platform()


def _output(command):
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip().split("\n")[0] if answer.returncode == 0 else None


def _package(name):
    return _output(["dpkg-query", "-W", "-f", "${Version}", name])


def load_average():
    return [round(value, 2) for value in os.getloadavg()]


def others_percent(seconds):
    """How much of all cores is taken while nothing of this run works: by others here, or by the
    host's other guests (steal)."""
    before = _cpu_ticks()
    time.sleep(seconds)
    after = _cpu_ticks()
    spent = [b - a for a, b in zip(before, after)]
    whole = sum(spent[:8])
    return round(100 * (whole - spent[3] - spent[4]) / whole, 1) if whole else 0.0


def _cpu_ticks():
    """user nice system idle iowait irq softirq steal, of proc(5)."""
    with open("/proc/stat") as stat:
        return [int(word) for word in stat.readline().split()[1:9]]


def ping_pong(program, round_trips):
    """Where the scheduler puts the two processes, and with each on a CPU of its own."""
    answer = _ping_pong(program, round_trips)
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) > 1:
        answer["apart"] = _ping_pong(program, round_trips, cpus[0], cpus[1])
    return answer


def _ping_pong(program, *words):
    return json.loads(subprocess.run([program, *map(str, words)], check=True, capture_output=True,
                                     timeout=60).stdout)


def fork_cost(preload, times):
    """A plain fork of a plain Python with the same imports: what no server of this shape can be
    under."""
    environment = {"PATH": "/usr/bin:/bin", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1",
                   "MPLCONFIGDIR": "/tmp", "HOME": "/nonexistent"}
    command = ["/usr/bin/python3", "-I", "-c", FORK_PROGRAM, str(times), *preload]
    return json.loads(subprocess.run(command, check=True, capture_output=True, env=environment,
                                     timeout=120).stdout)


def available_bytes():
    text = pathlib.Path("/proc/meminfo").read_text()
    return int(re.search(r"^MemAvailable:\s*(\d+) kB", text, re.MULTILINE).group(1)) * 1024


def name_of(pid):
    """By which it was started; of a program without a file the kernel has another one."""
    return pathlib.Path("/proc", str(pid), "cmdline").read_bytes().split(b"\0")[0].decode()


def cpu_seconds(pid):
    """CPU time that a process has used, from its scheduler's clock of nanoseconds."""
    return int(pathlib.Path("/proc", str(pid), "schedstat").read_text().split()[0]) / 1e9


def memory_of(pid):
    """Private, proportional and resident memory and page tables, in bytes."""
    rollup = _kilobytes(pathlib.Path("/proc", str(pid), "smaps_rollup"))
    status = _kilobytes(pathlib.Path("/proc", str(pid), "status"))
    return {
        "private": rollup["Private_Clean"] + rollup["Private_Dirty"],
        "proportional": rollup["Pss"],
        "resident": rollup["Rss"],
        "page_tables": status["VmPTE"],
    }


def _kilobytes(path):
    found = re.findall(r"^(\w+):\s*(\d+) kB", path.read_text(), re.MULTILINE)
    return {name: int(value) * 1024 for name, value in found}
