"""Stage `filter`: rejection sampling by verified answers; the verifier is shared by all stages."""
