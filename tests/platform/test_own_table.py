"""The promise of `lifecycle init`: a table becomes a project that is trained, served, asked, scored and watched, and
nobody writes a line. One public table in two files, with names, values and signs as they come, and one whole run."""

from __future__ import annotations

import csv
import html
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import httpx
import pytest
from command_line import lifecycle

from kfp_lifecycle.environments.locks import interpreter
from kfp_lifecycle.serving.ports import port_pair

# The first test waits for the whole run, however busy the machine is.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

# 569 tumours (Wolberg, Street and Mangasarian 1995), which scikit-learn carries.
TABLE = """if True:
    import sys
    from sklearn.datasets import load_breast_cancer
    data = load_breast_cancer(as_frame=True)
    names = {"mean area": "Größe (mm²)", "mean texture": "select", "mean radius": "年龄", "mean perimeter": "class",
             "mean smoothness": "<b>x</b> | $y$", "mean compactness": "gewölbt? " + "sehr " * 38 + "lang",
             "mean concavity": "عمق", "mean concave points": "👩‍🔬"}
    table = data.data.iloc[:, :10].rename(columns=names)
    table.insert(0, "Patient-Nr.", [f"P {row}" for row in range(len(table))])
    # Four measures come from another house: in its own order, and not for everybody.
    other = table.iloc[:20:-1, [0, *range(-4, 0)]].rename(columns={"Patient-Nr.": "patient"})
    other.to_csv(sys.argv[2], index=False)
    table = table.iloc[:, :-4]
    table["性别"] = ["女" if row % 2 else "男" for row in range(len(table))]
    table["Befund"] = data.target.map({0: "bösartig", 1: "gutartig"})
    table.to_csv(sys.argv[1], sep=";", decimal=",", index=False)
"""
QUICK = [
    *("--set", "tuning.trials=3"),
    *("--set", "evaluation.bootstrap_replicates=50"),
    *("--set", "evaluation.min_group_rows=20"),
]


@dataclass(frozen=True)
class OwnTable:
    """A folder with a table, and the project that was made of it."""

    folder: Path
    told: str
    run: dict[str, Any]
    screen: str
    settings: list[str]

    def lifecycle(self, *arguments: str) -> str:
        done = lifecycle(self.folder / "tumours", *arguments)
        assert done.returncode == 0, f"{arguments}\n{done.stdout[-1500:]}\n{done.stderr[-1500:]}"
        return done.stdout

    def json(self, *arguments: str) -> Any:
        return json.loads(self.lifecycle(*arguments, "--json"))

    def artifact(self, run: str, name: str) -> dict[str, Any]:
        found: dict[str, Any] = next(item for item in self.json("artifacts", run) if item["name"] == name)
        return found


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnTable]:
    folder = tmp_path_factory.mktemp("own")
    files = ["Befunde 2025.csv", "Labor.csv"]
    subprocess.run([interpreter("modelling"), "-c", TABLE, *(folder / file for file in files)], check=True)
    named = [word for file in files for word in ("--from", file)]
    begun = lifecycle(folder, "init", "tumours", *named, "--positive", "bösartig", "--sensitive", "性别", "--yes")
    assert begun.returncode == 0, begun.stderr
    settings = [*QUICK, "--set", f"deployment.http_port={port_pair()}"]
    run = lifecycle(folder / "tumours", "run", "training", "--json", *settings)
    assert run.returncode == 0, f"{run.stdout[-2000:]}\n{run.stderr[-2000:]}"
    yield OwnTable(folder, begun.stdout, json.loads(run.stdout), run.stderr, settings)
    lifecycle(folder / "tumours", "down")


def test_the_first_run_ends_with_a_model_that_answers(own: OwnTable) -> None:
    assert own.run["state"] == "done"
    assert own.run["endpoint"]["model"] == "tumours"
    answer = json.loads(own.lifecycle("predict", "--entity", "P 0"))
    score = next(output["data"][0] for output in answer["outputs"] if output["name"] == "score")
    with (own.folder / "Befunde 2025.csv").open(encoding="utf-8") as file:
        befund = next(row["Befund"] for row in csv.DictReader(file, delimiter=";") if row["Patient-Nr."] == "P 0")
    assert (score > 0.5) == (befund == "bösartig")


def test_the_report_speaks_of_the_tables_own_words_and_says_what_its_split_cannot_tell(own: OwnTable) -> None:
    page = Path(own.run["report"]).read_text("utf-8")
    assert "Befund is bösartig" in page
    assert "say nothing of later months" in page
    assert "later test dates" not in page
    assert "labor has no row for 21 of 569 entities" in page


TITLES = {
    "nian_ling": "年龄",
    "groesse_mm2": "Größe (mm²)",
    "b_x_b_y": "<b>x</b> | $y$",
    "gewoelbt_" + "sehr_" * 10 + "s": "gewölbt? " + "sehr " * 38 + "lang",
    "mq": "\N{FIRST STRONG ISOLATE}عمق\N{POP DIRECTIONAL ISOLATE}",
    "woman_microscope": "👩‍🔬",
}
ALL_TITLES = {**TITLES, "xing_bie": "性别", "mean_symmetry": "mean symmetry"}


def test_columns_are_called_what_the_table_calls_them_from_the_source_to_the_report(own: OwnTable) -> None:
    raw = Path(own.run["report"]).read_text("utf-8")
    page = html.unescape(raw)
    assert "<b>x" not in raw
    for name, title in TITLES.items():
        assert f'<th scope="row">{title} <code class="named">{name}</code></th>' in page, "importance"
        assert f"{title} [{name}]" in page, "what scores rest on"
    assert '性别 <code class="named">xing_bie</code>' in page, "fairness"
    evaluation = json.loads((Path(own.artifact(own.run["id"], "evaluation")["uri"]) / "evaluation.json").read_text())
    read = {section["title"]: [row[0] for row in section["rows"]] for section in evaluation["sections"]}
    assert sum(f"{title} missing" in read["What disturbances cost"] for title in TITLES.values()) >= 2
    assert set(read["Decisions by 性别"]) == {"女", "男"}
    told = " ".join([*evaluation["notes"], *read["What disturbances cost"], *read["Slices that rank worst"]])
    assert not any(name in told for name in ALL_TITLES)
    assert any(f".{name}=" in metric for metric in evaluation["metrics"] for name in ALL_TITLES)


def test_so_do_pictures_and_the_model_card(own: OwnTable) -> None:
    model = Path(own.artifact(own.run["id"], "approved_model")["uri"])
    picture = html.unescape((model / "plots" / "importance.svg").read_text("utf-8"))
    assert all(f">{title}</text>" in picture for title in TITLES.values() if len(title) < 30)
    assert "gewölbt? sehr se… sehr sehr lang" in picture
    card = (model / "model_card.md").read_text("utf-8")
    assert "|年龄 [nian_ling]|" in card
    assert "|&lt;b>x&lt;/b> \\| $y$ [b_x_b_y]|" in card
    assert "年龄 [nian_ling]" in (model / "model_card.html").read_text("utf-8")


def test_every_row_was_used_and_what_nobody_set_is_said(own: OwnTable) -> None:
    training_set = own.artifact(own.run["id"], "training_set")["metadata"]
    assert "569 rows" in training_set["summary"]
    verdict = json.loads(Path(own.artifact(own.run["id"], "verdict")["uri"]).read_text("utf-8"))
    assert verdict["decision"] == "approved"
    assert verdict["remarks"][-1].startswith("Costs are the library's defaults, which nobody set")
    assert verdict["remarks"][-1] in html.unescape(Path(own.run["report"]).read_text("utf-8"))


def test_batch_scoring_scores_every_row(own: OwnTable) -> None:
    run = own.json("run", "batch_scoring", *own.settings)
    assert run["state"] == "done"
    scores = own.artifact(run["id"], "scores")
    assert scores["metadata"]["rows"] == 569
    reasons = str(duckdb.sql(f"SELECT DISTINCT reason_1 FROM '{scores['uri']}/scores.parquet'").fetchall())
    assert any(f"{title} is " in reasons for title in ALL_TITLES.values())
    assert not any(name in reasons for name in ALL_TITLES)


def test_what_was_asked_is_watched_against_the_training_rows(own: OwnTable) -> None:
    url = f"{own.run['endpoint']['url']}/v2/models/tumours/infer"
    with httpx.Client(timeout=120) as client:
        for start in range(0, 500, 50):
            keys = [f"P {row}" for row in range(start, start + 50)]
            inputs = [{"name": "patient_nr", "datatype": "BYTES", "shape": [len(keys)], "data": keys}]
            assert client.post(url, json={"inputs": inputs}).status_code == 200
    run = own.json("run", "monitoring", *own.settings)
    assert run["state"] == "done"
    assert own.artifact(run["id"], "predictions")["metadata"]["rows"] >= 500
    drift = json.loads((Path(own.artifact(run["id"], "drift")["uri"]) / "drift.json").read_text("utf-8"))
    assert {item["title"] for item in drift["columns"]} >= {"年龄", "<b>x</b> | $y$", "عمق"}
    page = Path(run["report"]).read_text("utf-8")
    assert '年龄 <code class="named">nian_ling</code>' in page
    assert "<b>x" not in page


def test_a_second_run_is_judged_against_the_champion_on_the_same_rows(own: OwnTable) -> None:
    run = own.json("run", "training", *own.settings, "--set", "training.seed=7")
    verdict = json.loads(Path(own.artifact(run["id"], "verdict")["uri"]).read_text("utf-8"))
    assert verdict["champion"]["compared"]
    assert verdict["champion"]["version"] == own.run["endpoint"]["version"]
    assert run["state"] == {"approved": "done", "rejected": "rejected"}[verdict["decision"]]
