"""Authorizers that the operator configures: the file (config.py), webhooks (webhook.py). The chain is filters/authz.py."""
