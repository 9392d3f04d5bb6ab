"""Who may be what: bootstrap, enrolment, issuance, the trust document, and the control plane's own identity."""
