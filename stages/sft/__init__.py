"""Stage `sft`: supervised fine-tuning on verified traces with TRL."""
