"""A real Kubernetes node for tests: see README.md."""
