"""The shape of each pipeline is what was reviewed: a change of it is seen in `tests/platform/shapes/`."""

from __future__ import annotations

from pathlib import Path

from kfp_lifecycle.compilation.shape import shape_of, shapes

SHAPES = Path(__file__).parent / "shapes"
RENEW = "python -m kfp_lifecycle.compilation.shape tests/platform/shapes"


def test_the_shape_of_each_pipeline_is_the_reviewed_one() -> None:
    reviewed = {file.stem: file.read_text("utf-8") for file in SHAPES.glob("*.txt")}
    assert shapes() == reviewed, f"if the change is meant, renew the files and review them: {RENEW}"


def test_a_shape_names_what_a_step_waits_for_without_reading_it_and_on_what_condition() -> None:
    def task(component: str, **more: object) -> dict[str, object]:
        return {"componentRef": {"name": component}, "taskInfo": {"name": component}, **more}

    asked = {"taskOutputParameter": {"producerTask": "first", "outputParameterKey": "Output"}}
    group = task(
        "group",
        dependentTasks=["first"],
        inputs={"parameters": {"channel": asked}},
        triggerPolicy={"condition": "inputs.parameter_values['channel'] == 'yes'"},
    )
    inside = {"second": task("step", inputs={"parameters": {"word": {"componentInputParameter": "channel"}}})}
    pipeline = {
        "root": {
            "dag": {"tasks": {"first": task("step"), "group": group, "z": task("step", dependentTasks=["first"])}}
        },
        "components": {"step": {"executorLabel": "step"}, "group": {"dag": {"tasks": inside}}},
        "deploymentSpec": {"executors": {"step": {"container": {}}}},
    }
    assert shape_of(pipeline) == (
        "first\ngroup if first.Output == 'yes':\n  second\n      word <- first.Output\nz\n    after first\n"
    )
