"""The verdict's page: what a person who answers for it reads first, and that it needs nothing but itself."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import report_fixture
from html_page import Page
from jsonschema import Draft202012Validator

from kfp_lifecycle.artifacts.verdict import ChampionOutcome, Comparison, Verdict, Window
from kfp_lifecycle.components.evaluation.decide_promotion.component import decide_promotion
from kfp_lifecycle.components.evaluation.decide_promotion.page import write_verdict_page
from kfp_lifecycle.config.loading import parse_configuration
from kfp_lifecycle.config.settings import settings_of
from kfp_lifecycle.runtime.contract import ContractViolation

NAUGHTY = "<script>alert(1)</script> \" ' & {{ 7 * 7 }} \N{RIGHT-TO-LEFT OVERRIDE}"
CONFIGURATION = parse_configuration(report_fixture.CONFIGURATION)
SETTINGS = decide_promotion.given(settings_of(CONFIGURATION, decide_promotion.reads))
SENTENCE = "roc_auc is 0.809, that of version 2 0.797: better by 0.012: passed."


def comparison(**changes: Any) -> Comparison:
    lead = {"champion": 0.797, "candidate": 0.809, "difference": 0.012, "low": 0.003, "high": 0.021}
    kind = {"metric": "roc_auc", "window": "newest", "demand": "superiority", "margin": 0, "method": "DeLong"}
    return Comparison.model_validate({**kind, **lead, "passed": True, "sentence": SENTENCE, **changes})


def window(name: str, learned_from: bool = False) -> Window:
    return Window.model_validate(
        {
            "name": name,
            "snapshots": ["2026-08-25" if name == "newest" else "2026-07-26"],
            "rows": 14_195,
            "positives": 738,
            "entities": 7_402,
            "learned_from": learned_from,
        }
    )


def compared(**changes: Any) -> ChampionOutcome:
    former = comparison(window="champion", demand="non_inferiority", margin=0.02, difference=0.001, low=-0.004)
    content = {
        "version": "2",
        "compared": True,
        "passed": True,
        "sentence": SENTENCE,
        "notes": ["The candidate has seen rows that the champion was judged by."],
        "windows": [window("newest"), window("champion", True)],
        "comparisons": [comparison(), former],
    }
    return ChampionOutcome.model_validate({**content, **changes})


def verdict(champion: ChampionOutcome | None = None, **changes: Any) -> Verdict:
    content = {
        "decision": "approved",
        "model": "churn",
        "run_id": report_fixture.model()["run_id"],
        "decided_at": "2026-11-24T08:31:00+00:00",
        "feature_version": "b7e23ec29af2",
        "snapshots": ["2026-08-25"],
        "rules": report_fixture.verdict()["rules"],
        "champion": champion,
        "sentences": ["Approved: churn meets every rule."],
    }
    return Verdict.model_validate({**content, **changes})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    report_fixture.training_run(tmp_path)
    return tmp_path


def write(folder: Path, content: Verdict) -> Page:
    (folder / "verdict").write_text(content.model_dump_json(), "utf-8")
    parts = ("training_set", "model", "evaluation", "verdict", "page.html")
    write_verdict_page(SETTINGS, *(folder / part for part in parts))
    page = Page((folder / "page.html").read_text("utf-8"))
    assert page.open == []
    return page


def test_the_verdict_comes_first_then_rules_champion_quality_and_the_model_card(folder: Path) -> None:
    text = write(folder, verdict(compared())).text
    parts = ["approved", "The rules", "The model in production", "Quality", "Model card", "What it learned from"]
    places = [text.index(part) for part in parts]
    assert places == sorted(places)
    assert text.index("Churn meets every rule.") < places[1]


def test_the_published_schema_takes_every_verdict_and_no_other_document() -> None:
    schema = json.loads((Path(__file__).parents[2] / "docs" / "schemas" / "verdict.schema.json").read_text("utf-8"))
    Draft202012Validator.check_schema(schema)
    published = Draft202012Validator(schema)
    nothing = comparison(passed=False, difference=None, low=None, high=None, champion=None)
    for champion in (None, compared(), compared(comparisons=[nothing], passed=False)):
        published.validate(json.loads(verdict(champion).model_dump_json()))
    content = json.loads(verdict(compared()).model_dump_json())
    for broken in (
        {"decision": "perhaps"},
        {"rules": []},
        {"sentences": []},
        {"surprise": 1},
        {"champion": {"version": "2"}},
    ):
        assert not published.is_valid({**content, **broken}), broken


def test_each_rule_shows_value_interval_threshold_and_margin(folder: Path) -> None:
    page = write(folder, verdict())
    auc = "ROC AUC performance: The ranking must be worth acting on. 0.809 95% 0.794 to 0.823, 14,195 rows"
    assert f"met {auc} allowed ≥ 0.7 whole interval margin +0.109" in page.text
    drawn = [value for value in page.values("class") if value.startswith("scale")]
    assert len(drawn) >= len(verdict().rules)


def test_missed_and_waived_rules_stand_above_the_rest(folder: Path) -> None:
    rules = report_fixture.verdict()["rules"]
    rules[2] |= {"passed": False, "margin": -0.1, "sentence": "The ratio is too low: missed."}
    nothing = {"value": None, "low": None, "high": None, "rows": None, "margin": None}
    rules[4] |= {**nothing, "waived": True, "sentence": "latency.p99_ms was not measured: waived."}
    page = write(folder, verdict(decision="rejected", rules=rules, sentences=["Rejected: it misses 1 of 5 rules."]))
    sections = page.text[page.text.index("The rules All have to be met") :]
    assert re.search(r"missed demographic parity ratio.*waived p99 .*met ROC AUC", sections)
    assert "−0.1" in sections
    assert "latency.p99_ms was not measured: waived." in sections
    assert "The ratio is too low: missed." in page.text[: page.text.index("The rules All")]


@pytest.mark.parametrize(
    ("champion", "words"),
    [
        (None, "There is none yet: the rules alone decide."),
        (compared(compared=False, comparisons=[], windows=[], sentence="It is damaged."), "It is damaged."),
        (compared(), "better ROC AUC +0.012 95% 0.003 to 0.021, DeLong demanded > 0 champion 0.797 candidate 0.809"),
        (compared(), "On the snapshots that it was judged by 2026-07-26: 14,195 rows of 7,402 entities, 738 events."),
        (compared(), "not worse ROC AUC +0.001 95% −0.004 to 0.021, DeLong demanded > −0.02"),
        (compared(), "The candidate has seen rows that the champion was judged by."),
        (
            compared(comparisons=[comparison(passed=False, low=-0.1)], passed=False),
            "not better ROC AUC",
        ),
        (
            compared(
                comparisons=[comparison(passed=False, difference=None, low=None, high=None, sentence="Undefined.")],
                passed=False,
            ),
            "not better ROC AUC Undefined.",
        ),
    ],
)
def test_the_champion_is_told_of_whatever_became_of_the_comparison(
    folder: Path, champion: ChampionOutcome | None, words: str
) -> None:
    assert words in write(folder, verdict(champion)).text


def test_the_page_needs_no_network_runs_no_script_and_believes_no_text(folder: Path) -> None:
    rules = report_fixture.verdict()["rules"]
    rules[0] |= {"why": NAUGHTY, "sentence": NAUGHTY}
    told = compared(notes=[NAUGHTY], sentence=NAUGHTY)
    page = write(folder, verdict(told, rules=rules, sentences=[NAUGHTY], model=NAUGHTY))
    assert "script" not in page.tags
    assert not [value for name in ("src", "href") for value in page.values(name) if not re.match(r"#|data:", value)]
    html = (folder / "page.html").read_text("utf-8")
    assert "default-src 'none'" in html
    assert "url(" not in html
    assert "@media print" in html
    assert "{{ 7 * 7 }}" in page.text


@pytest.mark.parametrize("file", ["model/model.json", "evaluation/evaluation.json"])
def test_artifacts_of_another_run_are_refused_and_no_page_is_left(folder: Path, file: str) -> None:
    content = json.loads((folder / file).read_text("utf-8"))
    (folder / file).write_text(json.dumps({**content, "run_id": "another"}), "utf-8")
    with pytest.raises(ContractViolation, match=rf"but {Path(file).name} is of run another"):
        write(folder, verdict())
    assert not (folder / "page.html").exists()


def test_what_is_no_verdict_is_refused_by_name(folder: Path) -> None:
    (folder / "verdict").write_text('{"decision": "approved"}', "utf-8")
    with pytest.raises(ContractViolation, match=r"/verdict is of format None.*Run decide_promotion again"):
        write_verdict_page(
            SETTINGS, *(folder / part for part in ("training_set", "model", "evaluation", "verdict", "p"))
        )
    assert not (folder / "p").exists()
