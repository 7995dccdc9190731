"""Provenance in the formats that others' tools read, from dvc.lock, manifests and artifacts."""
