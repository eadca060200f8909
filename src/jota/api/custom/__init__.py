"""Custom resources: a CustomResourceDefinition becomes a `Kind` that the one engine serves.

manager.py watches definitions, installs and removes kinds and keeps the definitions' conditions; kinds.py makes a Kind of a
version; served.py keeps and renders its objects; naming.py decides about names.
"""
