"""Stage `generate`: reasoning traces sampled from a model with vLLM."""
