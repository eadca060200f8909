"""API priority and fairness: which requests run now, which wait, which are told to come back. See `flows.py`."""
