"""Kubernetes manifests, rendered from the fleet file."""
