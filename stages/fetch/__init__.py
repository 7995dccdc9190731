"""Stage `fetch`: the base model, pinned by digest and verified."""
