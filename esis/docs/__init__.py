"""The documentation, shipped with the package as Markdown."""
