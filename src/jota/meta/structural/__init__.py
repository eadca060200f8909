"""Custom resources along their CRD's structural schema: checks, defaults, formats, list rules. Pure; used by api/custom.

In: an `openAPIV3Schema` as plain JSON and a value. Out: errors in upstream's words, or the value changed in place.
"""
