"""Benchmarks: one file per subject, each prints what it compares with. `python -m bench --list` names them."""
