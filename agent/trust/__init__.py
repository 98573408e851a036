"""Who may say what: trust document, certificates, authorisations, attestations, replay guard, TLS certificates."""
