"""Vertex AI backend.

`api.py` asks the API, `tasks.py` finds steps in what it tells, `backend.py` speaks the protocol.
"""
