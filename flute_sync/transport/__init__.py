"""HTTP to other systems: TLS, credentials, proxy and timeouts, the same for every peer."""
