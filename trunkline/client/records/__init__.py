"""The typed results of the control plane's and the agent's APIs, in a module for each subject."""
