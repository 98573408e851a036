"""Trust: trust document, certificates, authorisations, attestations, replay guard, TLS certificates."""
