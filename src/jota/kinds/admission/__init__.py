"""admissionregistration.k8s.io: who else has a say in writes."""
