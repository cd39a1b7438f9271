"""An archive and a FHIR R4 server in one process, for the demo and for fast tests.

Both are small but real: they store, search, refuse and version as Orthanc and HAPI do, and pass
the same contract suites. Loopback only, no authentication, no claim to durability beyond a folder.
"""
