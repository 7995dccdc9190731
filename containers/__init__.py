"""Images: their definitions, the locks of their packages, and what builds them."""
