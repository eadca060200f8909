"""Jota: Kubernetes in Python. ARCHITECTURE.md is the map of this tree."""

__version__ = "0.1.0"
KUBERNETES_VERSION = "1.37.0"
