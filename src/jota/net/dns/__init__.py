"""Cluster DNS: packet.py (bytes), zone.py (what names exist), forward.py (everybody else's names), server.py (sockets)."""
