"""The sender: the typed SDK that reaches nodes through a relay and calls the control plane."""
