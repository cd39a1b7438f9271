"""The FHIR server: what is asked of it, what is written to it, what can go wrong."""
