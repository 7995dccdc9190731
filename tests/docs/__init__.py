"""The pages hold: what they tell to type is typed."""
