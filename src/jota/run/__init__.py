"""Composition root: everything is made, wired, started and stopped here; nothing below knows how it is deployed."""
