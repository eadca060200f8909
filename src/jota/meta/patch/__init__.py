"""Patches: (object, patch) in, a new object out; nothing is changed in place. One file per patch type."""
