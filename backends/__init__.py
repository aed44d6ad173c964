"""Backends: what submits, shows and stops runs on each target, by the same verbs.

`backend.py` is the protocol; `local.py`, `kubeflow/` and `vertex/` speak it, each by its target's own client.
`submission.py` is the way from a project to a run on a cluster: compile, upload, submit.
"""
