"""The run report: what it says, what it refuses, and that nothing in an artifact can break out of it."""

import itertools
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import report_fixture
from html_page import Page
from hypothesis import given, settings
from hypothesis import strategies as st
from kfp.dsl import HTML, Artifact

from kfp_lifecycle.artifacts import tables
from kfp_lifecycle.artifacts.drift import Compared, Drift, DriftRule, Finding
from kfp_lifecycle.components.operations.write_report.component import write_report
from kfp_lifecycle.config.loading import parse_configuration
from kfp_lifecycle.config.settings import settings_of
from kfp_lifecycle.local.reporting import settings_digest
from kfp_lifecycle.reports import formatting, geometry
from kfp_lifecycle.reports.report import (
    ArtifactView,
    Failure,
    Outcome,
    RunReport,
    StepView,
    collect,
    render,
    write_run_report,
)
from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.runtime.states import State

NAUGHTY = Path(__file__).parents[3] / "shared" / "data" / "naughty" / "blns.txt"
CSS = Path(geometry.__file__).with_name("page.css")
CONFIGURATION = parse_configuration(report_fixture.CONFIGURATION)
SETTINGS = settings_of(CONFIGURATION, write_report.reads)


@pytest.fixture
def run(tmp_path: Path) -> dict[str, ArtifactView]:
    return report_fixture.training_run(tmp_path / "artifacts")


def report_of(artifacts: dict[str, ArtifactView], **details: Any) -> RunReport:
    return collect(CONFIGURATION, artifacts, **details)


def change(artifact: ArtifactView, file: str, edit: Callable[[Any], None]) -> None:
    place = artifact.path / file if file else artifact.path
    content = json.loads(place.read_text("utf-8"))
    edit(content)
    place.write_text(json.dumps(content), "utf-8")


def page_of(artifacts: dict[str, ArtifactView], **details: Any) -> Page:
    page = Page(render(report_of(artifacts, **details)))
    assert page.open == []
    return page


def test_a_promoted_candidate_is_told_in_one_sentence(run: dict[str, ArtifactView]) -> None:
    report = report_of(run)
    assert report.outcome is Outcome.promoted
    assert report.sentence == "The candidate meets all 5 rules: churn version 3 now answers all requests."


def test_what_was_approved_is_not_told_as_promoted_before_the_alias_has_moved(run: dict[str, ArtifactView]) -> None:
    del run["promotion"]
    report = report_of(run)
    assert report.outcome is Outcome.approved
    assert report.sentence == "The candidate meets all 5 rules: churn version 3 now answers all requests."
    del run["deployment"]
    report = report_of(run)
    assert report.outcome is Outcome.approved
    assert report.sentence.endswith("was approved for release.")


def test_a_rejected_candidate_is_told_with_the_rules_it_misses(run: dict[str, ArtifactView]) -> None:
    def miss(verdict: Any) -> None:
        verdict["decision"] = "rejected"
        verdict["rules"][3] |= {"passed": False, "sentence": "The error is 0.08; at most 0.05 is allowed."}

    change(run["verdict"], "", miss)
    del run["deployment"], run["promotion"]
    report = report_of(run)
    assert report.outcome is Outcome.rejected
    assert report.sentence.startswith("The candidate misses 1 of 5 rules")
    assert "The error is 0.08; at most 0.05 is allowed." in Page(render(report)).text
    assert [rule.passed for rule, _ in report.findings("gate").rules] == [False, True, True, True, True]


@pytest.mark.parametrize(
    ("comparisons", "words"),
    [
        ([{"passed": False}], "does not beat the model in production"),
        (
            [
                {"passed": True},
                {"metric": "brier_score", "demand": "non_inferiority", "passed": False},
            ],
            "may be worse than the model in production",
        ),
        ([], "could not be compared with the model in production"),
    ],
)
def test_a_candidate_that_does_not_replace_the_champion_is_told_why(
    run: dict[str, ArtifactView], comparisons: list[dict[str, Any]], words: str
) -> None:
    def lose(verdict: Any) -> None:
        verdict["decision"] = "rejected"
        [lead] = verdict["champion"]["comparisons"]
        verdict["champion"] |= {"passed": False, "comparisons": [lead | changes for changes in comparisons]}

    change(run["verdict"], "", lose)
    assert words in report_of(run).sentence


def test_a_failed_run_is_told_with_its_step_its_reason_and_the_command_that_goes_on(
    run: dict[str, ArtifactView],
) -> None:
    failure = Failure("validate-data", "amount is negative\nin 12 rows", "last line", "logs/x.log", "lifecycle run x")
    page = page_of({}, failure=failure)
    for words in (
        "failed",
        "Stopped at validate data: amount is negative",
        "in 12 rows",
        "last line",
        "lifecycle run x",
    ):
        assert words in page.text


def test_a_pipeline_that_decides_nothing_is_done(run: dict[str, ArtifactView]) -> None:
    store = ArtifactView(run["store"].path, {**run["store"].metadata, "rows": {"profile": 12}})
    report = report_of({name: run[name] for name in ("dataset", "validated")} | {"store": store})
    assert report.outcome is Outcome.done
    assert [figure.value for figure in report.figures] == ["1,204,118"]


def test_a_section_is_there_exactly_when_its_artifact_is(run: dict[str, ArtifactView]) -> None:
    sections = {
        "features": "training_set",
        "quality": "evaluation",
        "gate": "verdict",
        "deployment": "deployment",
        "serving": "servable_model",
    }
    whole = page_of(run)
    for section, artifact in sections.items():
        assert section in whole.values("id")
        assert section not in page_of({name: view for name, view in run.items() if name != artifact}).values("id")


def test_how_the_real_server_did_is_told_by_clients_with_its_start_and_memory(run: dict[str, ArtifactView]) -> None:
    text = " ".join(page_of(run).text.split())
    assert "It was ready after 0.9 s and took 231.3 MB of memory at the most." in text
    assert "1 client 1.35 ms 1.56 ms 1.66 ms 300" in text
    assert "8 clients at once 9.97 ms 11.7 ms 64.8 ms 296" in text
    untold = {"ready_seconds": 0.92, "peak_memory_mb": None}
    change(run["servable_model"], "serving.json", lambda content: content.update(server=untold))
    assert "It was ready after 0.9 s." in " ".join(page_of(run).text.split())


def test_unvalidated_data_is_shown_without_checks(run: dict[str, ArtifactView]) -> None:
    data = report_of({"tables": run["tables"]}).findings("data")
    assert (len(data.tables), data.layers) == (5, [])
    assert report_of({}).findings("data") is None


def test_the_section_links_lead_somewhere(run: dict[str, ArtifactView]) -> None:
    page = page_of(run)
    links = [link.removeprefix("#") for link in page.values("href")]
    assert links
    assert set(links) <= set(page.values("id"))
    assert len(page.values("id")) == len(set(page.values("id")))


def test_an_artifact_of_another_pipeline_is_shown_by_what_it_recorded(run: dict[str, ArtifactView]) -> None:
    drift = ArtifactView(run["tables"].path, {"drifted_features": 3, "retrain": True, "seconds": 2.0})
    text = page_of({"drift_findings": drift}).text
    assert "Drift findings drifted features 3 retrain True" in text


@pytest.mark.parametrize("name", ["drift", "findings"])
def test_drift_has_a_section_of_its_own_and_its_sentence_stands_at_the_top(tmp_path: Path, name: str) -> None:
    measured: dict[str, Any] = {
        "aspect": "values",
        "measure": "level",
        "test": "prediction interval",
        "p_value": 1e-9,
        "corrected_p_value": 2e-9,
        "effect": 0.9,
    }
    found = Drift(
        verdict="world moved",
        decision="retrain",
        sentence="The score drifted, and 1 of 2 features drifted (50%).",
        model="churn",
        version="4",
        start=datetime(2026, 5, 13, tzinfo=UTC),
        end=datetime(2026, 5, 20, tzinfo=UTC),
        predictions=Compared(window=300, champion=290, compared=280),
        reference_rows=2000,
        reference_dates=8,
        rule=DriftRule(
            drift_rule="usual_variation", significance=0.01, min_effect=0.1, max_drifted_share=0.3, min_window=100
        ),
        drifted_share=0.5,
        drifted=["wärme"],
        columns=[
            Finding(column="site", drifted=False, distance=0.05, sentence="as ever", **measured),
            Finding(column="wärme", drifted=True, distance=0.4, sentence="median 3 → 9", **measured),
        ],
    )
    found.write(tmp_path)
    run = {name: ArtifactView(tmp_path, found.metadata())}
    assert report_of(run).sentence == found.sentence
    text = " ".join(page_of(run).text.split())
    assert "Predictions 300 290 by version 4 Compared 280" in text
    assert text.index("wärme median 3 → 9 0.400 +0.90 2e-09") < text.index("site as ever 0.050 +0.90 2e-09")


def test_lineage_names_what_has_to_be_the_same(run: dict[str, ArtifactView]) -> None:
    report = report_of(run, lineage={"Commit": "0123abc", "Configuration digest": settings_digest(CONFIGURATION)})
    facts = dict(report.lineage)
    assert facts["Dataset version"] == "3f9a1c7be2d04415a9"
    assert re.fullmatch("[0-9a-f]{12}", facts["Configuration digest"])
    assert facts["MLflow run"] == "4c1f6a0e9d0b4b7f8f55f0f4c1c58a31"
    assert (facts["Seed"], facts["Commit"]) == ("42", "0123abc")


def test_failed_checks_stand_before_warnings_and_passed_checks_are_folded(run: dict[str, ArtifactView]) -> None:
    failed = report_fixture.checks()[0] | {"passed": False, "rows": 7, "share": 0.01, "examples": ["−1"]}
    change(run["validated"], "validation.json", lambda content: content["checks"].append(failed))
    data = report_of(run).findings("data")
    assert [check.severity for check in data.failed] == ["critical", "warning"]
    assert [(layer.name, layer.checks, layer.failed) for layer in data.layers] == [
        ("schema", 5, 1),
        ("rules", 4, 0),
        ("statistics", 5, 1),
    ]


def test_the_parts_of_the_split_show_the_days_between_them(run: dict[str, ArtifactView]) -> None:
    features, _ = report_of(run).findings("features")
    assert [(part.name, part.snapshots, part.gap_days) for part in features.parts] == [
        ("train", 8, None),
        ("validation", 2, 30),
        ("test", 2, 30),
    ]


def test_the_label_s_rate_stands_there_by_snapshot_and_what_is_odd_about_it_before_all(
    run: dict[str, ArtifactView],
) -> None:
    assert "How common the event is at each of 12 snapshots" in page_of(run).text
    assert "5.1% 7,000" in page_of(run).text
    lags = "The table cancellations lags: later snapshots are left out."
    change(run["training_set"], "training_set.json", lambda told: told.update(notes=[lags]))
    page = page_of(run).text
    assert page.index(lags) < page.index("How common the event is")


def test_the_best_possible_auc_stands_beside_the_models(run: dict[str, ArtifactView]) -> None:
    text = page_of(run).text
    assert "ROC AUC 0.809" in text
    assert "Best possible AUC 0.846" in text


def test_the_request_to_copy_is_one_that_a_shell_understands(run: dict[str, ArtifactView]) -> None:
    change(run["deployment"], "", lambda content: content["example"]["inputs"][0].update(data=["O'Neill; $(id)"]))
    deployment = report_of(run).findings("deployment")
    echoed = subprocess.run(
        ["bash", "-c", deployment.example.replace("curl", "printf '%s\\n'", 1)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(echoed.stdout.splitlines()[-1])["inputs"][0]["data"] == ["O'Neill; $(id)"]
    assert "http://127.0.0.1:8080/v2/models/churn/infer" in echoed.stdout.splitlines()


def test_the_file_needs_no_network_and_runs_no_script(run: dict[str, ArtifactView]) -> None:
    html = render(report_of(run))
    page = Page(html)
    assert not {"script", "link", "iframe", "object", "embed", "base", "form"} & set(page.tags)
    assert all(source.startswith("data:image/svg+xml;base64,") for source in page.values("src"))
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert "url(" not in html
    assert "@import" not in html
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    assert policy in page.values("content")


def test_a_plot_with_a_script_in_it_is_shown_as_an_image_alone(run: dict[str, ArtifactView]) -> None:
    plot = run["evaluation"].path / "plots" / "performance_x.svg"
    plot.write_text("<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'><script>alert(2)</script></svg>")
    html = render(report_of(run))
    assert "alert" not in html
    assert "script" not in Page(html).tags


def test_every_image_has_words_and_the_page_has_landmarks(run: dict[str, ArtifactView]) -> None:
    page = page_of(run)
    assert len(page.values("alt")) == page.tags.count("img") == 4
    assert all(page.values("alt"))
    assert [page.tags.count(tag) for tag in ("h1", "main", "header", "footer", "nav")] == [1, 1, 1, 1, 1]
    assert page.values("lang") == ["en"]
    assert page.values("scope").count("col") > 10


@pytest.fixture
def any_table_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables whose names no file could have."""
    monkeypatch.setattr(tables, "parquet_file", lambda folder, table: folder / tables.Manifest.FILE)


@pytest.mark.usefixtures("any_table_name")
def test_a_script_in_a_name_is_text(run: dict[str, ArtifactView]) -> None:
    attack = "<script>alert(1)</script>"
    benign = page_of(poisoned(run, ["x"])).tags
    page = page_of(poisoned(run, [attack]))
    assert page.tags == benign
    assert attack in page.text


def poisoned(run: dict[str, ArtifactView], texts: list[str]) -> dict[str, ArtifactView]:
    """The run with a check and a table for each text, and the first text in every other place that holds text."""
    first = texts[0]
    checks = [
        {
            "table": text,
            "column": text,
            "layer": "rules",
            "rule": text,
            "severity": "critical",
            "passed": False,
            "rows": 1,
            "share": 0.5,
            "examples": [text],
            "remedy": text or "nothing",
        }
        for text in texts
    ]
    named = {f"{position} {text}": {"rows": 1, "columns": {}} for position, text in enumerate(texts)}

    def verdict(content: Any) -> None:
        content["rules"][0] |= {"metric": f"performance.{first}", "why": first or "-", "sentence": first}
        content["champion"]["comparisons"][0]["sentence"] = first

    change(run["validated"], "manifest.json", lambda content: content.update(tables=named))
    change(run["validated"], "validation.json", lambda content: content.update(checks=checks))
    change(run["verdict"], "", verdict)
    change(run["deployment"], "", lambda content: content.update(model=first, url=first, grpc=first or "-"))
    change(run["model"], "model.json", lambda content: content.update(run_id=first or "-"))
    poison = ArtifactView(run["dataset"].path, {**run["dataset"].metadata, "version": first or "-"})
    other = ArtifactView(run["tables"].path, {first or "-": first})
    return {**run, "dataset": poison, first or "-": other}


@pytest.mark.usefixtures("any_table_name")
@pytest.mark.skipif(not NAUGHTY.exists(), reason="the big list of naughty strings is not here")
def test_no_naughty_string_breaks_out(run: dict[str, ArtifactView]) -> None:
    lines = NAUGHTY.read_text("utf-8", "replace").splitlines()
    texts = [line for line in lines if line.strip() and not line.startswith("#")]
    assert len(texts) > 300
    benign = page_of(poisoned(run, [f"x{position}" for position in range(len(texts))]))
    page = page_of(poisoned(run, texts))
    # Equal strings are one layer of checks, so that there are fewer badges.
    assert [tag for tag in page.tags if tag not in ("li", "span")] == [
        tag for tag in benign.tags if tag not in ("li", "span")
    ]
    words = "".join(page.words)
    assert all(str(formatting.printable(text)) in words for text in texts)


@settings(deadline=None, max_examples=50)
@given(text=st.text(st.characters(categories=None, exclude_categories=())))
def test_no_text_at_all_breaks_out(text: str) -> None:
    failure = Failure("a-step", text, text, "log", text or "again")
    plain = replace(failure, reason="x", log_excerpt="x" if text else "", resume="x")
    html = render(collect(CONFIGURATION, {}, run_id=text or "-", failure=failure))
    html.encode("utf-8")
    assert Page(html).tags == Page(render(collect(CONFIGURATION, {}, run_id="x", failure=plain))).tags


@pytest.mark.parametrize(
    ("artifact", "file", "content", "words"),
    [
        ("evaluation", "evaluation.json", None, "No such file"),
        ("evaluation", "evaluation.json", "{", "is not JSON"),
        ("evaluation", "evaluation.json", '{"format": 1, "run_id": "r", "metrics": 3}', "metrics"),
        ("training_set", "training_set.json", '{"format": 1}', "entity"),
        ("verdict", "", "[]", "verdict"),
    ],
)
def test_a_broken_artifact_is_named_and_leaves_no_report(
    run: dict[str, ArtifactView], tmp_path: Path, artifact: str, file: str, content: str | None, words: str
) -> None:
    place = run[artifact].path / file if file else run[artifact].path
    if content is None:
        place.unlink()
    else:
        place.write_text(content)
    with pytest.raises(ContractViolation) as caught:
        write_run_report(tmp_path / "out" / "report.html", settings=CONFIGURATION, artifacts=run)
    assert str(place) in str(caught.value)
    assert words in str(caught.value)
    assert re.search(r"Run \w+ again", str(caught.value))
    assert not (tmp_path / "out").exists()


def test_the_component_writes_the_page_and_says_what_was_decided(run: dict[str, ArtifactView], tmp_path: Path) -> None:
    given_artifacts = {
        name: Artifact(name=name, uri=str(view.path), metadata=view.metadata)
        for name, view in run.items()
        if name != "registered_model"
    }
    page = HTML(name="report", uri=str(tmp_path / "report.html"), metadata={})
    write_report.function(settings=SETTINGS, **given_artifacts, report=page, pipeline="training")
    assert page.metadata["outcome"] == "promoted"
    assert page.metadata["summary"].endswith("now answers all requests.")
    text = Page(Path(page.path).read_text("utf-8")).text
    for _, step, _, figure in report_fixture.STEPS:
        if step != "register_model":
            assert f"{step.replace('_', ' ')} " in text
            assert figure in text


def test_steps_that_are_given_are_shown_as_they_are(run: dict[str, ArtifactView]) -> None:
    steps = [
        StepView("ingest-data", State.cached),
        StepView("validate-data", State.failed, report_fixture.BEGUN, 3.2),
        StepView("train-model", State.skipped),
    ]
    text = page_of(run, steps=steps).text
    assert "ingest data cached" in text
    assert "validate data failed, 3.2 s" in text
    assert "train model skipped" in text


step_views = st.lists(
    st.builds(
        StepView,
        name=st.just("step"),
        started_at=st.none()
        | st.integers(0, 10**7).map(lambda seconds: report_fixture.BEGUN + timedelta(seconds=seconds)),
        seconds=st.none() | st.floats(0, 10**5),
    ),
    max_size=12,
)


@given(steps=step_views)
def test_every_bar_stays_on_the_time_line_and_keeps_its_order(steps: list[StepView]) -> None:
    bars = geometry.step_bars(steps)
    assert [bar.step for bar in bars] == steps
    for bar in bars:
        assert -1e-6 <= bar.left <= 100 + 1e-6
        assert bar.left + bar.width <= 100 + 1e-6
        assert bar.wait_left >= -1e-6
    begun = sorted((bar.step.started_at, bar.left) for bar in bars if bar.step.started_at)
    assert all(before <= after + 1e-6 for (_, before), (_, after) in itertools.pairwise(begun))


def test_a_long_wait_is_named_and_does_not_squeeze_the_work() -> None:
    first = StepView("a", State.done, report_fixture.BEGUN, 10.0)
    second = StepView("b", State.done, report_fixture.BEGUN + timedelta(hours=3), 10.0)
    bars = geometry.step_bars([first, second])
    assert bars[1].waited == 3 * 3600 - 10
    assert bars[0].width == bars[1].width > 40
    assert bars[1].wait_width == pytest.approx(100 - 2 * bars[0].width)


def test_snapshots_of_one_day_and_none_at_all_have_a_place() -> None:
    assert geometry.snapshot_marks({"train": []}, 30) == []
    mark = geometry.snapshot_marks({"train": [date(2026, 1, 1)]}, 30)[0]
    assert (mark.left, mark.horizon_width) == (0, 100)


@given(
    points=st.lists(st.none() | st.floats(allow_nan=True, allow_infinity=True), min_size=5, max_size=5),
    whole=st.booleans(),
)
def test_every_point_of_an_interval_is_on_its_scale(points: list[float | None], whole: bool) -> None:
    small = [point if point is None or abs(point) < 1e100 else float("inf") for point in points]
    bar = geometry.interval_bar(*small, whole=whole)
    if bar is not None:
        placed = [place for place in (bar.value, bar.low, bar.high, bar.lowest, bar.highest) if place is not None]
        assert all(-1e-6 <= place <= 100 + 1e-6 for place in placed)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "—"), (float("nan"), "—"), (0, "0"), (12345, "12,345"), (0.80912, "0.809"), (4.123, "4.12"),
        (612.44, "612.4"), (1234.5, "1,234"), (-0.06, "−0.060"), (2.1e-7, "2.1e-07"),
        (float("inf"), "∞"), (56204.0, "56,204"),
    ],
)  # fmt: skip
def test_numbers_have_the_digits_that_mean_something(value: float | None, shown: str) -> None:
    assert formatting.number(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"), [(0.04, "0.0 s"), (9.96, "10 s"), (59.6, "1 min 0 s"), (185, "3 min 5 s"), (7800, "2 h 10 min")]
)
def test_durations_are_in_units_a_person_uses(value: float, shown: str) -> None:
    assert formatting.duration(value) == shown


def luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.2)."""
    parts = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_all_words_have_enough_contrast(scheme: int) -> None:
    roots = re.findall(r":root \{(.*?)\}", CSS.read_text("utf-8"), re.DOTALL)
    colours = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", roots[scheme]))
    pairs = [(word, place) for word in ("ink", "muted", "accent") for place in ("paper", "card", "soft")]
    pairs += [(tone, f"{tone}-soft") for tone in ("good", "bad", "warn", "accent")]
    pairs += [(part, "card") for part in ("train", "validation", "test")]
    for word, place in pairs:
        light, dark = sorted((luminance(colours[word]), luminance(colours[place])), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, f"{word} on {place}"


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs a browser: apt-get install chromium")
@pytest.mark.parametrize("width", [320, 400, 1400])
def test_in_a_real_browser_the_page_never_scrolls_sideways(
    run: dict[str, ArtifactView], tmp_path: Path, width: int
) -> None:
    html = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", render(report_of(run)))
    measure = (
        "<script>document.querySelectorAll('details').forEach(each => each.open = true);"
        "const page = document.documentElement;"
        "parent.document.title = `${page.clientWidth} of ${page.scrollWidth}`</script>"
    )
    (tmp_path / "page.html").write_text(html.replace("</body>", measure + "</body>"), "utf-8")
    frame = f'<title></title><iframe style="border:0;width:{width}px;height:900px" src="page.html"></iframe>'
    (tmp_path / "frame.html").write_text(frame, "utf-8")
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    command += ["--allow-file-access-from-files", f"--user-data-dir={tmp_path / 'browser'}", "--window-size=1600,900"]
    command += ["--dump-dom", f"file://{tmp_path / 'frame.html'}"]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=200, check=True).stdout
    found = re.search(r"<title>(\d+) of (\d+)</title>", shown)
    assert found, shown[:500]
    assert found[1] == found[2]


def test_every_page_stands_on_the_one_base() -> None:
    root = CSS.parent.parent
    folders = [root / name for name in ("components", "reports", "tuning", "cli", "local")]
    files = [file for folder in folders for file in folder.rglob("*") if file.suffix in (".j2", ".py")]
    whole = re.compile(r"<html|<!doctype", re.IGNORECASE)
    assert [file.name for file in files if whole.search(file.read_text("utf-8"))] == ["base.html.j2"]
