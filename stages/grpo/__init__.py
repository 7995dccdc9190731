"""Stage `grpo`: reinforcement learning from verifiable rewards with TRL."""
