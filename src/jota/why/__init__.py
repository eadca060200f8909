"""`jota why`: the causal chain of a thing that does not work, in plain words, from the public API alone.

world.py reads, explain.py chooses the explainer of a kind, pod.py, workload.py, service.py, ... decide (each pure logic over
what world.py read), texts.py says it in English and Korean.
"""
