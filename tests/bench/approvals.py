"""What is measured of approvals: how fast they become durable."""

import json
import pathlib
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
from harness import BUILD  # noqa: E402
from postgres import Postgres  # noqa: E402

AT_ONCE = 512


def commits(bench):
    """Transitions a second, each answered after its commit has reached the disk (commits.c). The
    database lies in the build directory: elsewhere might be no disk."""
    seconds = bench.scale(4, 2)
    with tempfile.TemporaryDirectory(dir=BUILD, prefix="commits-") as directory:
        numbers = run(f"sqlite:{directory}/approvals.db", seconds, AT_ONCE)
        numbers["one"] = run(f"sqlite:{directory}/one.db", 1, 1)
    with Postgres() as database:
        numbers["postgresql"] = run(database.url, seconds, AT_ONCE)
    return numbers


def run(url, seconds, at_once):
    done = subprocess.run([BUILD / "tests" / "commits", url, str(seconds), str(at_once)],
                          check=True, capture_output=True, timeout=120)
    return json.loads(done.stdout)
