"""lifecycle.k8s.io: EvictionRequests and the Evictions that come of them."""
