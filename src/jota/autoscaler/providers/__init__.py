"""Who makes machines: simulated ones (hollow.py) and those of a command (exec.py). Nodes of this host: jota/run/localnodes.py."""
