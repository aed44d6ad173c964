"""The builder of step environments."""

from __future__ import annotations

import subprocess
import sys

MANY_SEARCHES = """
import sys, threading
from concurrent.futures import ThreadPoolExecutor
sys.setswitchinterval(1e-6)
from kfp_lifecycle.environments.build import uv_program
together = threading.Barrier(8)
def search(_):
    together.wait()
    return uv_program()
with ThreadPoolExecutor(8) as pool:
    assert len(set(pool.map(search, range(8)))) == 1
"""


def test_environments_built_side_by_side_find_the_same_uv() -> None:
    for _ in range(5):
        done = subprocess.run([sys.executable, "-c", MANY_SEARCHES], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
