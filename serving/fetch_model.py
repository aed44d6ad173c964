"""On Vertex AI: fetch the model folder and start its server. Runs alone in the container (`python -c`)."""

import json
import os
import pathlib
import sys
import urllib.parse
import urllib.request

STORAGE = os.environ.get("STORAGE_EMULATOR_HOST", "https://storage.googleapis.com")
METADATA = os.environ.get("GCE_METADATA_HOST", "metadata.google.internal")
FOLDER = pathlib.Path(os.environ.get("MODEL_FOLDER", "/tmp/model"))


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
    """Fetch what AIP_STORAGE_URI names, and become its server."""
    uri = os.environ["AIP_STORAGE_URI"]
    if not fetch(uri, FOLDER):
        sys.exit(f"there is no model at {uri}")
    os.chdir(FOLDER / "code")
    arguments = ["-s", "-m", "serving.server", f"--model_dir={FOLDER}", *sys.argv[1:]]
    os.execv(sys.executable, [sys.executable, *arguments])


if __name__ == "__main__":
    main()
