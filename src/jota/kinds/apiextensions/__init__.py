"""apiextensions.k8s.io: kinds that make kinds."""
