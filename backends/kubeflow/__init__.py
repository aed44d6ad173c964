"""Kubeflow backend.

`api.py` asks the API server, `workflow_nodes.py` finds steps in what it tells, `backend.py` speaks the protocol.
"""
