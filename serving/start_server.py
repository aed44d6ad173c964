"""Entry point of a serving container on a cluster: fetch the model, install what the image lacks, become its server.

Runs alone (`python -c`), on an image that holds nothing of this library.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request
import venv

STORAGE = os.environ.get("STORAGE_EMULATOR_HOST", "https://storage.googleapis.com")
METADATA = os.environ.get("GCE_METADATA_HOST", "metadata.google.internal")
FOLDER = pathlib.Path(os.environ.get("MODEL_FOLDER", "/tmp/model"))
# An image that was built from a lock says which one: `serving-<digest>`.
ENVIRONMENT = os.environ.get("LIFECYCLE_ENVIRONMENT", "")


def interpreter_with(lock: pathlib.Path) -> str:
    """The Python that has the packages of a lock: this one where its image was built from one, or one of a new virtual
    environment.

    Args:
        lock: Requirements with hashes, complete, so that pip has nothing to resolve. There may be none.
    """
    if ENVIRONMENT.startswith("serving-") or not lock.is_file():
        return sys.executable
    folder = pathlib.Path(tempfile.mkdtemp(prefix="serving-environment-"))
    venv.create(folder, with_pip=False)
    python = str(folder / "bin" / "python")
    pip = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check", "install", "--no-deps"]
    print(f"installing the {lock.read_text('utf-8').count('==')} packages of the serving environment", flush=True)
    options = ["--no-cache-dir", "--quiet", "--require-hashes", "--only-binary", ":all:", "-r", str(lock)]
    if subprocess.run([*pip, *options], check=False).returncode:
        sys.exit("the serving environment could not be installed: the lines above say why")
    return python


def access_token() -> str:
    """A token of the container's service account."""
    url = f"http://{METADATA}/computeMetadata/v1/instance/service-accounts/default/token"
    with urllib.request.urlopen(urllib.request.Request(url, headers={"Metadata-Flavor": "Google"})) as answer:
        return str(json.load(answer)["access_token"])


def fetch(uri: str, folder: pathlib.Path) -> int:
    """Download everything below a `gs://` folder.

    Returns:
        How many files there were.
    """
    bucket, _, prefix = uri.removeprefix("gs://").rstrip("/").partition("/")
    headers = {"Authorization": f"Bearer {access_token()}"}
    page, files = "", 0
    while True:
        query = urllib.parse.urlencode({"prefix": f"{prefix}/", "pageToken": page})
        listing = urllib.request.Request(f"{STORAGE}/storage/v1/b/{bucket}/o?{query}", headers=headers)
        with urllib.request.urlopen(listing) as answer:
            found = json.load(answer)
        for item in found.get("items", []):
            if item["name"].endswith("/"):
                continue
            name = urllib.parse.quote(item["name"], safe="")
            file = folder / item["name"].removeprefix(f"{prefix}/")
            file.parent.mkdir(parents=True, exist_ok=True)
            source = urllib.request.Request(f"{STORAGE}/storage/v1/b/{bucket}/o/{name}?alt=media", headers=headers)
            with urllib.request.urlopen(source) as content:
                file.write_bytes(content.read())
            files += 1
        page = found.get("nextPageToken", "")
        if not page:
            return files


def main() -> None:
    """Make the environment and the model stand here, and become the server."""
    # Vertex AI names the model's place; KServe has put the model into its folder before.
    uri = os.environ.get("AIP_STORAGE_URI", "")
    if uri and not fetch(uri, FOLDER):
        sys.exit(f"there is no model at {uri}")
    python = interpreter_with(FOLDER / "code" / "requirements.txt")
    os.chdir(FOLDER / "code")
    os.execv(
        python, [python, "-s", "-m", "kfp_lifecycle.serving.server.server", f"--model_dir={FOLDER}", *sys.argv[1:]]
    )


if __name__ == "__main__":
    main()
