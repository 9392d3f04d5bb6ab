"""The identity: authority, certificates, tokens, trust documents, TLS policy and key files."""
