"""A FHIR R4 server on SQLite: what a synchroniser of studies needs, refused as HAPI refuses."""
