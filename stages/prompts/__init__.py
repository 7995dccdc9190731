"""Stage `prompts`: disjoint, decontaminated train, rl and evaluation problems."""
