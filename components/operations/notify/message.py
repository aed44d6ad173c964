"""Notification text: how a run ended, in words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from kfp_lifecycle.artifacts.markdown import markdown
from kfp_lifecycle.components.operations.notify.decisions import Decision
from kfp_lifecycle.components.operations.notify.pods import FailedPod

# Enough to know what to do; the log has the rest.
LONGEST_REASON = 2000

# The words of kfp's local runner and of Vertex AI, and those of a Kubeflow's ML Metadata: COMPLETE, CACHED, CANCELED.
STATES = {
    "SUCCEEDED": "done",
    "COMPLETE": "done",
    "CACHED": "done",
    "SKIPPED": "done",
    "FAILED": "failed",
    "CANCELLED": "stopped",
    "CANCELED": "stopped",
}
UNKNOWN = "unknown"

# The clusters' backends tell of the group that the exit handler guards, not of the step inside it.
_EXIT_HANDLER = re.compile(r"exit-handler-\d+")
# How Vertex names the steps that failed inside the group.
_FAILED_TASKS = re.compile(r"failed tasks are: \[([^\]]+)\]")


class FinalStatus(Protocol):
    """kfp's `PipelineTaskFinalStatus`, as far as a message needs it."""

    state: str
    pipeline_job_resource_name: str
    pipeline_task_name: str
    error_message: str | None


@dataclass(frozen=True)
class RunEnd:
    """How a run ended."""

    state: str
    """`done`, `failed`, `stopped`, or `unknown` where the platform uses a word that says none of these."""
    headline: str
    reason: str
    next_steps: list[str]
    alarm: bool = False
    """Whether somebody has to look."""

    @property
    def body(self) -> str:
        """What follows the headline, as plain text."""
        return "\n".join(part for part in (self.reason, *self.next_steps) if part)

    @property
    def text(self) -> str:
        """The message as plain text."""
        return f"{self.headline}\n{self.body}"

    @property
    def markdown(self) -> str:
        """The message as Markdown. The reason is shown as it is, whatever characters it holds."""
        reason = "\n".join(f"    {line}" for line in self.reason.splitlines())
        steps = "\n".join(f"- {line}" for line in self.next_steps)
        return "\n\n".join(part for part in (f"**{markdown(self.headline)}**", reason, steps) if part) + "\n"


def describe_end(
    status: FinalStatus,
    pipeline: str,
    local_run: str = "",
    failed_pods: Sequence[FailedPod] = (),
    decided: Sequence[Decision] = (),
) -> RunEnd:
    """Put a final status into words.

    Args:
        status: What the platform says.
        pipeline: The pipeline's name.
        local_run: The run's name, when it ran on this machine.
        failed_pods: What Kubernetes knows of steps that failed; used where the platform does not tell.
        decided: What was decided, as it is told.
    """
    state = STATES.get(status.state.upper(), UNKNOWN)
    run = local_run or status.pipeline_job_resource_name or "unnamed"
    if state == "done":
        first, *rest = [decision.sentence for decision in decided] or ["done."]
        alarm = any(decision.alarm for decision in decided)
        more = f"The report of run {run} says more." if decided else f"See the report of run {run}."
        return RunEnd(state, f"{pipeline}: {first}", "\n".join(rest), [more], alarm)
    if state == "stopped":
        return RunEnd(state, f"{pipeline}: stopped before its end.", "", [_again(pipeline, run, local_run)])
    if state == UNKNOWN:
        word = status.state or "no word at all"
        return RunEnd(state, f"{pipeline}: ended.", f"The platform says {word}.", [f"See run {run} for what it means."])
    steps = failed_steps(status) or [pod.step for pod in failed_pods]
    where = " at " + ", ".join(re.sub("[-_]", " ", name) for name in steps) if steps else ""
    reason = (status.error_message or "").strip() or "\n".join(pod.reason for pod in failed_pods if pod.reason)
    if len(reason) > LONGEST_REASON:
        reason = reason[:LONGEST_REASON].rstrip() + " …"
    log = f"The log of {steps[0]}" if steps else "The log of the failed step"
    return RunEnd(
        state,
        f"{pipeline}: failed{where}.",
        reason or "The platform gives no reason.",
        [f"{log} in run {run} says more.", _again(pipeline, run, local_run)],
        alarm=True,
    )


def failed_steps(status: FinalStatus) -> list[str]:
    """The steps that failed, as far as the platform names them."""
    named = _FAILED_TASKS.search(status.error_message or "")
    if named:
        return [name.strip() for name in named[1].split(",")]
    task = status.pipeline_task_name or ""
    return [] if not task or _EXIT_HANDLER.fullmatch(task) else [task]


def _again(pipeline: str, run: str, local_run: str) -> str:
    if local_run:
        return f"To go on: lifecycle run {pipeline} --resume"
    return f"When the cause is mended, clone run {run}: steps that were done come from the cache."
