"""Root filesystem of a small Debian with Python, copied from this machine: a base image where none can be pulled."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

# Beside what every Debian has: what the Dockerfile installs with, and the certificates that it trusts.
WANTED = ("apt", "ca-certificates", "passwd")
NOT_COPIED = re.compile(r"^/usr/share/(doc|man|locale|info|lintian|bug)/")
MERGED = ("bin", "lib", "lib64", "sbin")
# Made when packages were installed, so that they are in none.
MADE = ("/etc/alternatives", "/etc/ssl/certs/ca-certificates.crt", "/etc/apt", "/etc/pip.conf")
NOT_OF_PYTHON = ("site-packages", "test", "idlelib", "tkinter", "turtledemo", "config-*", "lib2to3")
DATABASE = Path("/var/lib/dpkg")


def copy_debian(root: Path) -> None:
    """Copy the packages that a small Debian consists of, and say so to its package manager."""
    packages = closure()
    for folder in ("usr", "proc", "sys", "dev", "run", "var/lib/dpkg/info", "var/lib/dpkg/updates", "tmp", "root"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "tmp").chmod(0o1777)
    for name in MERGED:
        (root / name).symlink_to(f"usr/{name}")
    listed = subprocess.run(["dpkg-query", "-L", *packages], capture_output=True, text=True, check=True).stdout
    files = {Path(line) for line in listed.splitlines() if line.startswith("/") and not NOT_COPIED.match(line)}
    for made in map(Path, MADE):
        files |= {made, *made.rglob("*")} if made.exists() else set()
    for package in packages:
        files |= {*(DATABASE / "info").glob(f"{package}.*"), *(DATABASE / "info").glob(f"{package}:*.*")}
    # A path through a link of the machine, /bin/sh say, is copied as where that leads.
    real = sorted({file.parent.resolve() / file.name for file in files if file.exists() or file.is_symlink()})
    names = "\0".join(str(file.relative_to("/")) for file in real if file != Path("/"))
    command = f"tar -C / --no-recursion --null -T - -c | tar -C '{root}' --keep-directory-symlink -x"
    subprocess.run(command, shell=True, input=names.encode(), check=True)
    status = (DATABASE / "status").read_text("utf-8").split("\n\n")
    kept = [entry for entry in status if entry.partition("\n")[0].removeprefix("Package: ") in packages]
    (root / "var/lib/dpkg/status").write_text("\n\n".join(kept) + "\n", encoding="utf-8")
    for name in ("passwd", "group"):
        shutil.copy(f"/usr/share/base-passwd/{name}.master", root / "etc" / name)
    (root / "etc/shadow").touch(mode=0o640)


def closure() -> set[str]:
    """Names of the packages that every Debian has, and WANTED, with all that they need."""
    shown = "${Package}\t${Essential}\t${Priority}\t${Depends}, ${Pre-Depends}\n"
    listed = subprocess.run(["dpkg-query", "-W", "-f", shown], capture_output=True, text=True, check=True).stdout
    needs, found = {}, set(WANTED)
    for line in listed.splitlines():
        name, essential, priority, needed = line.split("\t")
        needs[name] = [re.split(r"[ :(]", option.strip())[0] for option in re.split(r"[,|]", needed) if option.strip()]
        if essential == "yes" or priority == "required":
            found.add(name)
    waiting = list(found)
    while waiting:
        fresh = {name for name in needs.get(waiting.pop(), []) if name in needs} - found
        found |= fresh
        waiting += fresh
    return found


def copy_python(interpreter: Path, root: Path) -> None:
    """Copy an interpreter to where an image of Python has it, with the libraries that it needs."""
    asked = "import sys; print(sys.base_prefix)"
    prefix = Path(subprocess.run([interpreter, "-c", asked], capture_output=True, text=True, check=True).stdout.strip())
    program, library = prefix / "bin" / "python3.11", prefix / "lib" / "python3.11"
    local = root / "usr" / "local"
    (local / "bin").mkdir(parents=True, exist_ok=True)
    shutil.copy(program, local / "bin")
    shutil.copytree(library, local / "lib" / "python3.11", ignore=shutil.ignore_patterns(*NOT_OF_PYTHON))
    for name in ("python3", "python"):
        (local / "bin" / name).symlink_to("python3.11")
    programs = [program, *(library / "lib-dynload").glob("*.so")]
    needed = subprocess.run(["ldd", *map(str, programs)], capture_output=True, text=True, check=True).stdout
    for line in needed.splitlines():
        file = Path(line.rpartition("=> ")[2].partition(" (")[0].strip())
        if file.is_file() and not (root / file.relative_to("/")).exists():
            shutil.copy(file, local / "lib")
    for command in (["ldconfig"], ["python3", "-m", "ensurepip"], ["ln", "-sf", "pip3", "/usr/local/bin/pip"]):
        path = "PATH=/usr/local/bin:/usr/sbin:/usr/bin"
        subprocess.run(["/usr/sbin/chroot", root, "env", path, *command], check=True, capture_output=True)
