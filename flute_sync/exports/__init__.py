"""Resources that were exported to files: Bundles and NDJSON, read as a stream of any length."""
