"""The YAML documents of a compiled pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

# libyaml is eight times quicker, and a file has thousands of lines.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_documents(file: Path) -> list[dict[str, Any]]:
    """The pipeline's specification, and behind it what a Kubeflow gives its pods where the file is compiled for one.

    Raises:
        yaml.YAMLError: it is not YAML.
    """
    return list(yaml.load_all(file.read_text("utf-8"), Loader=LOADER))
