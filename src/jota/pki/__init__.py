"""Keys, certificates and signed tokens; knows no Kubernetes API. `ca.py` issues, `jwt.py` signs tokens."""
