"""OpenAPI documents: kinds and the schema's facts in, compressed bytes and ETags out.

definitions.py rewrites the schema for a document, paths.py lists the operations, v2.py and v3.py put documents together,
gnostic.py encodes v2 as the protobuf that old kubectl wants, documents.py builds on request and keeps the bytes.
"""
