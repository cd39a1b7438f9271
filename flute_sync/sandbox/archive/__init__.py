"""A DICOMweb archive with a change feed: files in a folder, an SQLite index beside them."""
