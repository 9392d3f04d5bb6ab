"""Exchanges: what arrives on the streams of a link, admitted by the agent itself and answered or forwarded."""
