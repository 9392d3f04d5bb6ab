"""The control plane as the relay sees it: trust and quotas come down from it, reports and presence go up."""
