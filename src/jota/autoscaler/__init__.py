"""The cluster autoscaler: machines are made for pods that fit nowhere and removed when their pods fit elsewhere.

provider.py is who makes machines; settings.py what is wanted; world.py what is seen; plan.py decides (scaleup.py and
scaledown.py on a simulation.py of the real scheduler); autoscaler.py carries it out; report.py tells.
"""
