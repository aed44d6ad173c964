"""Bills of materials (`make sbom`): what each lock installs as CycloneDX 1.6, in `build/sbom/<lock>.cdx.json`.

With names, only those: `python -m kfp_lifecycle.environments.bill_of_materials validation`. Each is checked by
CycloneDX's own schema. Name, version, package URL and the hashes of all files that may be installed come from the lock;
the licence from the package itself, where it is installed here.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.metadata import Distribution, distributions
from pathlib import Path

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from kfp_lifecycle.environments.lock import GROUPS
from kfp_lifecycle.environments.locks import HERE, environment_directory, lock_digest
from kfp_lifecycle.environments.notices import NOT_DECLARED, licence

FOLDER = HERE.parent / "build" / "sbom"
VERSION = SchemaVersion.V1_6


def bill_of_materials(lock: str) -> str:
    """The bill of materials of a lock, as JSON that CycloneDX's schema accepts.

    Raises:
        subprocess.CalledProcessError: the lock cannot be read; the reason is on stderr.
        ValueError: the schema does not accept what was made.
    """
    command = [sys.executable, "-m", "cyclonedx_py", "requirements", "--output-reproducible", str(HERE / f"{lock}.txt")]
    read = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    bill: Bom = Bom.from_json(json.loads(read.stdout))  # type: ignore[attr-defined]
    whole = Component(name=f"kfp-lifecycle-{lock}", version=lock_digest(lock), type=ComponentType.APPLICATION)
    bill.metadata.component = whole
    # A lock does not say which of its packages asks for which.
    bill.register_dependency(whole, bill.components)
    packages = installed(lock)
    for component in bill.components:
        # The line of the lock, word for word.
        component.description = None
        package = packages.get((normalised(component.name), component.version or ""))
        declared = licence(package) if package else NOT_DECLARED
        if declared != NOT_DECLARED:
            component.licenses = [LicenseFactory().make_from_string(declared)]
    text = make_outputter(bill, OutputFormat.JSON, VERSION).output_as_string(indent=2)
    if error := JsonStrictValidator(VERSION).validate_str(text):
        raise ValueError(f"the bill of materials of {lock} is no {VERSION.to_version()}: {error}")
    return text


def installed(lock: str) -> dict[tuple[str, str], Distribution]:
    """The packages that stand in a lock's environment here, or beside the command line, by name and version."""
    folders: list[Path] = []
    # What comes last is kept: the lock's own.
    for directory in (environment_directory(lock), environment_directory("platform")):
        folders += [directory, *directory.glob("lib/python*/site-packages")]
    found = distributions(path=[str(folder) for folder in reversed(folders)])
    return {(normalised(package.metadata["Name"]), package.version): package for package in found}


def normalised(name: str) -> str:
    """A package's name as indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for chosen in sys.argv[1:] or GROUPS:
        file = FOLDER / f"{chosen}.cdx.json"
        file.write_text(bill_of_materials(chosen), encoding="utf-8")
        print(file.relative_to(HERE.parent), flush=True)
