"""Kubernetes' own end-to-end suite against a cluster of ours: `python -m tools.conformance --help`."""
