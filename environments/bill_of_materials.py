"""Bills of materials (`make sbom`): what each lock installs as CycloneDX 1.6, in `build/sbom/<lock>.cdx.json`.

With names, only those: `python -m kfp_lifecycle.environments.bill_of_materials validation`. Each is checked by
CycloneDX's own schema. Name, version, package URL and the hashes of all files that may be installed come from the lock;
the licence from the package itself, where it is installed here.

With `--root FOLDER`, the root filesystem of an image that was built from the lock (`buildah mount`, or unpacked from
`docker export`), also all else that is installed there: Debian's packages and Python's, to `<lock>-image.cdx.json`.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

from kfp_lifecycle.environments.lock import GROUPS
from kfp_lifecycle.environments.locks import HERE, environment_directory, lock_digest
from kfp_lifecycle.environments.notices import NOT_DECLARED, licence

FOLDER = HERE.parent / "build" / "sbom"
VERSION = SchemaVersion.V1_6


def bill_of_materials(lock: str, root: Path | None = None) -> str:
    """The bill of materials of a lock, as JSON that CycloneDX's schema accepts.

    Args:
        lock: Its name.
        root: Root filesystem of an image that was built from it, whose own packages are listed too.

    Raises:
        subprocess.CalledProcessError: the lock cannot be read; the reason is on stderr.
        ValueError: the schema does not accept what was made.
    """
    command = [sys.executable, "-m", "cyclonedx_py", "requirements", "--output-reproducible", str(HERE / f"{lock}.txt")]
    read = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    bill: Bom = Bom.from_json(json.loads(read.stdout))  # type: ignore[attr-defined]
    kind = ComponentType.APPLICATION if root is None else ComponentType.CONTAINER
    whole = Component(name=f"kfp-lifecycle-{lock}", version=lock_digest(lock), type=kind)
    bill.metadata.component = whole
    if root is not None:
        locked = {(normalised(component.name), component.version) for component in bill.components}
        bill.components.update(debian_packages(root), python_packages(root, locked))
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


def debian_packages(root: Path) -> Iterator[Component]:
    """What Debian's package manager has installed below a root."""
    status = root / "var" / "lib" / "dpkg" / "status"
    for entry in status.read_text("utf-8").split("\n\n"):
        field = dict(re.findall(r"^(Package|Status|Version|Architecture): (.+)$", entry, re.MULTILINE))
        if field.get("Status") == "install ok installed":
            qualifiers = {"arch": field["Architecture"]}
            yield _component(PackageURL("deb", "debian", field["Package"], field["Version"], qualifiers))


def python_packages(root: Path, locked: set[tuple[str, str | None]]) -> Iterator[Component]:
    """What is installed below a root for its Python, but what is locked."""
    folders = [str(folder) for folder in root.glob("usr/local/lib/python3*/site-packages")]
    for name, version in sorted(
        {(normalised(one.metadata["Name"]), one.version) for one in distributions(path=folders)}
    ):
        if (name, version) not in locked:
            yield _component(PackageURL("pypi", None, name, version))


def _component(url: PackageURL) -> Component:
    return Component(name=url.name, version=url.version, purl=url, bom_ref=url.to_string(), type=ComponentType.LIBRARY)


def normalised(name: str) -> str:
    """A package's name as indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write bills of materials.")
    parser.add_argument("lock", nargs="*", help="only these")
    parser.add_argument("--root", type=Path, help="root filesystem of an image that was built from the lock")
    asked = parser.parse_args()
    if asked.root is not None and len(asked.lock) != 1:
        parser.error("--root is of one lock: name it")
    FOLDER.mkdir(parents=True, exist_ok=True)
    for chosen in asked.lock or GROUPS:
        file = FOLDER / f"{chosen}{'' if asked.root is None else '-image'}.cdx.json"
        file.write_text(bill_of_materials(chosen, asked.root), encoding="utf-8")
        print(file.relative_to(HERE.parent), flush=True)
