"""Code archive: what a step on a stock image runs first, as the `__main__.py` of the archive that holds its code.

It unpacks the archive, installs the environment's lock with hashes where the image lacks it, and becomes the step.
It stands alone: nothing of the library or of any package can be imported yet.
"""

import os
import pathlib
import subprocess
import sys
import tempfile
import venv
import zipfile

LOCKS = "locks"
# An image that was built from a lock says which one in this variable; here it is set for the step, too.
ENVIRONMENT = "LIFECYCLE_ENVIRONMENT"


def interpreter_with(locks: pathlib.Path) -> str:
    """The Python that has what the locks name: this one where its image was built from them, or a new environment's."""
    wanted = (locks / "ENVIRONMENT").read_text("utf-8").strip()
    if os.environ.get(ENVIRONMENT) == wanted:
        return sys.executable
    os.environ[ENVIRONMENT] = wanted
    folder = pathlib.Path(tempfile.mkdtemp(prefix="environment-"))
    venv.create(folder, with_pip=False)
    python = str(folder / "bin" / "python")
    installer = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check", "install"]
    bootstrap = locks / "bootstrap.txt"
    if bootstrap.exists():
        # What the lock has no wheel for is built by what this lock names, checked by its hash too.
        install([*installer, "--no-cache-dir"], [bootstrap])
        installer = [str(folder / "bin" / "uv"), "pip", "install", "--no-cache", "--python", python]
        installer += ["--require-build-hashes", "--build-constraints", str(bootstrap)]
    install(installer, [lock for lock in sorted(locks.glob("*.txt")) if lock != bootstrap])
    return python


def install(installer: list[str], locks: list[pathlib.Path]) -> None:
    """Install locks, every file checked against its hash; what cannot be installed ends the step, in words."""
    packages = sum(lock.read_text("utf-8").count("==") for lock in locks)
    print(f"installing {', '.join(lock.stem for lock in locks)}: {packages} packages", flush=True)
    named = [part for lock in locks for part in ("-r", str(lock))]
    if subprocess.run([*installer, "--quiet", "--no-deps", "--require-hashes", *named], check=False).returncode:
        reason = f"the packages of {locks[0].stem} could not be installed: the lines above in the log say why"
        termination = pathlib.Path(os.environ.get("TERMINATION_LOG", "/dev/termination-log"))
        if termination.parent.is_dir() and os.access(
            termination if termination.exists() else termination.parent, os.W_OK
        ):
            termination.write_text(reason, "utf-8")
        sys.exit(reason)


def main() -> None:
    """Unpack, install, become the step."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="code-"))
    with zipfile.ZipFile(sys.argv[0]) as archive:
        archive.extractall(folder)
    python = interpreter_with(folder / LOCKS)
    path = os.pathsep.join(part for part in (str(folder), os.environ.get("PYTHONPATH", "")) if part)
    os.environ["PYTHONPATH"] = path
    os.execv(python, [python, "-m", "kfp_lifecycle.runtime.executor", *sys.argv[1:]])


if __name__ == "__main__":
    main()
