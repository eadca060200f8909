"""metrics.k8s.io: what pods and nodes use right now, from the nodes' own measurements.

samples.py reads and rates, scrape.py asks the nodes when somebody asks us, serve.py answers. Nothing runs when nobody asks.
"""
