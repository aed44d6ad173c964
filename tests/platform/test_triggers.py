"""A run is started once for each reason: a version of the data."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Checkout
from test_recurring_runs import FILES, PIPELINE, Source

from kfp_lifecycle.backends.backend import BackendError
from kfp_lifecycle.backends.triggers import new_data, version_of
from kfp_lifecycle.config.data import Source as SourceSettings
from kfp_lifecycle.config.errors import ConfigurationError
from kfp_lifecycle.config.loading import load_configuration
from kfp_lifecycle.runtime.closure import ROOT
from tests.control_planes.object_store import object_store

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")


def source_at(url: str) -> SourceSettings:
    return load_configuration(ROOT, [f"source.url={url}"]).source


class TestVersions:
    @pytest.fixture
    def bucket(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
        """A bucket's folder, served as S3."""
        folder = tmp_path / "objects" / "exports"
        folder.mkdir(parents=True)
        with object_store(tmp_path / "objects") as url:
            for name, value in {"ENDPOINT_URL": url, "ACCESS_KEY_ID": "key", "SECRET_ACCESS_KEY": "secret"}.items():
                monkeypatch.setenv(f"AWS_{name}", value)
            yield folder

    def test_objects_have_another_version_when_one_of_them_has(self, bucket: Path, tmp_path: Path) -> None:
        (bucket / "shop").mkdir()
        (bucket / "shop" / "orders.parquet").write_bytes(b"one")
        shop = source_at("s3://exports/shop")
        first = version_of(shop, tmp_path)
        (bucket / "other.parquet").write_bytes(b"elsewhere")
        assert version_of(shop, tmp_path) == first
        # The same size, at the same time.
        (bucket / "shop" / "orders.parquet").write_bytes(b"two")
        assert version_of(shop, tmp_path) != first

    def test_one_object_is_a_source_too(self, bucket: Path, tmp_path: Path) -> None:
        (bucket / "orders.parquet").write_bytes(b"one")
        first = version_of(source_at("s3://exports/orders.parquet"), tmp_path)
        (bucket / "orders.parquet").write_bytes(b"two")
        assert version_of(source_at("s3://exports/orders.parquet"), tmp_path) != first

    def test_a_store_that_has_nothing_there_or_does_not_answer_is_told(
        self, bucket: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with pytest.raises(BackendError, match=r"there is nothing at s3://exports/nowhere: see source\.url"):
            version_of(source_at("s3://exports/nowhere"), tmp_path)
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        with pytest.raises(BackendError, match=r"s3://exports/shop cannot be listed .*AWS_ACCESS_KEY_ID"):
            version_of(source_at("s3://exports/shop"), tmp_path)

    def test_what_tells_no_version_is_named_by_who_brings_it(self, tmp_path: Path) -> None:
        database = source_at("postgresql://me:${PASSWORD}@host/shop")
        with pytest.raises(
            ConfigurationError, match="no version can be told of postgresql://host/shop without"
        ) as told:
            version_of(database, tmp_path)
        assert "--version" in str(told.value)
        assert new_data("training", database, tmp_path, "2026-11-01").name == "training-of-data-2026-11-01"
        # An ETag has quotes, which no target takes in a name.
        quoted = new_data("training", database, tmp_path, '"9a0364b9"')
        assert re.fullmatch("training-of-data-[0-9a-f]{12}", quoted.name)
        assert quoted == new_data("training", database, tmp_path, '"9a0364b9"')
        with pytest.raises(ConfigurationError, match="or it is not there"):
            version_of(source_at("duckdb:///nowhere.duckdb"), tmp_path)


@pytest.mark.slow
def test_new_data_is_run_once_on_this_machine_and_again_when_more_has_come(checkout: Checkout, tmp_path: Path) -> None:
    source = Source(tmp_path / "library.duckdb")
    source.grow(40)
    project = tmp_path / "library"
    for name, text in {**FILES, "pipeline.yaml": PIPELINE.replace("SOURCE", str(source.file))}.items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(text, encoding="utf-8")

    def look() -> tuple[bool, str, str]:
        words = ["trigger", "new-data", "materialization", "--project", str(project), "--json"]
        told = json.loads(checkout.lifecycle(*words).stdout)
        return told["started"], told["state"], told["run"]

    started, state, first = look()
    assert (started, state) == (True, "done")
    assert look() == (False, "done", first)
    source.grow(20)
    started, state, second = look()
    assert (started, state) == (True, "done")
    assert second != first
    assert len(list((checkout.state / "runs").iterdir())) == 2
