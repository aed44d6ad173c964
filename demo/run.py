"""Start the demonstration in the environment that monitoring's steps run in.

python demo/run.py [--small] [--state FOLDER]
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Started as a file, Python looks for modules in its folder only; the demonstration is not part of the package.
sys.path[:0] = [str(ROOT / "src"), str(ROOT)]

from kfp_lifecycle.environments.locks import interpreter  # noqa: E402

if __name__ == "__main__":
    python = str(interpreter("modelling"))
    told = {
        "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}",
        "DEMO_COMMAND_LINE": sys.executable,
    }
    os.execve(python, [python, "-m", "demo", *sys.argv[1:]], {**os.environ, **told})
