"""What builds the documentation site (mkdocs.yml)."""
