"""apiregistration.k8s.io at work: group versions that other servers answer for, behind this server's address.

services.py knows them all and is there from the start; the rest is imported when the first one is not local.
"""
