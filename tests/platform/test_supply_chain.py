"""What travels with the library: bills of materials of the locks, and the vulnerabilities that are known of them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from kfp_lifecycle.environments.audit import PAGE, audit, known_vulnerabilities
from kfp_lifecycle.environments.bill_of_materials import bill_of_materials, normalised
from kfp_lifecycle.environments.lock import GROUPS
from kfp_lifecycle.environments.locks import HERE, lock_digest, pinned_requirements
from tests.json_service import Request, json_service

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bill() -> Any:
    """Of the environment that holds most."""
    return json.loads(bill_of_materials("validation"))


def test_a_bill_of_materials_lists_a_lock_s_packages_with_the_hashes_of_their_files(bill: Any) -> None:
    text = (HERE / "validation.txt").read_text()
    blocks = re.findall(r"^(\S+?)(?:\[.*?\])?==(\S+) \\\n((?: +--hash=\S+(?: \\)?\n?)+)", text, re.MULTILINE)
    assert len(blocks) == len(pinned_requirements("validation"))
    locked = {(name, version): set(re.findall("sha256:([0-9a-f]{64})", hashes)) for name, version, hashes in blocks}
    listed = {
        (each["name"], each["version"]): {
            digest["content"] for reference in each["externalReferences"] for digest in reference["hashes"]
        }
        for each in bill["components"]
    }
    assert listed == locked
    assert {each["purl"] for each in bill["components"]} == {
        f"pkg:pypi/{normalised(name)}@{version}" for name, version in locked
    }


def test_it_says_what_it_is_of_and_under_which_licences(bill: Any) -> None:
    assert bill["metadata"]["component"]["name"] == "kfp-lifecycle-validation"
    assert bill["metadata"]["component"]["version"] == lock_digest("validation")
    licences = {each["name"]: each["licenses"] for each in bill["components"] if "licenses" in each}
    assert licences["pydantic"] == [{"license": {"id": "MIT"}}]
    assert licences["pyarrow"] == [{"license": {"name": "Apache Software License"}}], "an SPDX name where it has one"
    assert len(licences) > 0.9 * len(bill["components"])


def test_the_schema_that_it_passed_refuses_what_is_none(bill: Any) -> None:
    validator = JsonStrictValidator(SchemaVersion.V1_6)
    assert validator.validate_str(json.dumps(bill)) is None
    for spoiled in ({**bill, "components": [{"name": "a package of no type"}]}, {**bill, "surplus": 1}):
        assert validator.validate_str(json.dumps(spoiled)) is not None


@pytest.mark.parametrize("known", known_vulnerabilities(), ids=lambda known: known.pin)
def test_a_vulnerability_that_the_page_answers_is_still_locked_and_where_it_says(known: Any) -> None:
    def pins(lock: str) -> set[str]:
        return {re.sub(r"\[.*\]", "", pin) for pin in pinned_requirements(lock)}

    assert {lock for lock in GROUPS if known.pin in pins(lock)} == set(known.locks)
    assert known.advisories
    assert all(re.fullmatch(r"CVE-\d{4}-\d+|GHSA(-\w{4}){3}|PYSEC-\d{4}-\d+", each) for each in known.advisories)


def test_every_row_of_the_page_is_read() -> None:
    section = PAGE.read_text("utf-8").partition("## Known vulnerabilities")[2].partition("\n## ")[0]
    assert len(re.findall(r"^\| `", section, re.MULTILINE)) == len(known_vulnerabilities()) > 0


@pytest.fixture
def database() -> Iterator[str]:
    """A stand-in for OSV's interface that knows one vulnerability of protobuf 4, which the page answers, and one of
    kubernetes, which it does not."""

    def answer(request: Request) -> dict[str, Any]:
        asked = request.json()
        name = asked["package"]["name"]
        known = {"protobuf": "CVE-2026-0994", "kubernetes": "CVE-2099-0001"}
        if name not in known:
            return {}
        fixed = {"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "99"}]}
        affected = [{"package": {"name": name, "ecosystem": "PyPI"}, "ranges": [fixed]}]
        return {"vulns": [{"id": known[name], "aliases": [], "summary": "a stand-in's", "affected": affected}]}

    with json_service(answer) as url:
        yield f"{url}/v1/query"


def test_an_audit_finds_what_the_page_does_not_answer_and_only_that(
    database: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert audit("testing", ["-s", "osv", "--osv-url", database])
    assert not audit("katib", ["-s", "osv", "--osv-url", database])
    told = capfd.readouterr().out
    assert re.search(r"^kubernetes +30\.1\.0 +CVE-2099-0001", told, re.MULTILINE)
    assert "CVE-2026-0994" not in told


def test_an_audit_whose_database_does_not_answer_is_no_good_news(capfd: pytest.CaptureFixture[str]) -> None:
    with json_service(lambda request: {}) as url:
        gone = url
    assert not audit("testing", ["-s", "osv", "--osv-url", f"{gone}/v1/query"])
    assert "No known vulnerabilities" not in capfd.readouterr().out
