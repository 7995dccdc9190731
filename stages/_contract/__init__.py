"""The stage contract: strict parameters, atomic outputs, seeds, manifests."""
