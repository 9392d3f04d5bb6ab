"""The outputs of ended commands, kept by the control plane so that they outlive the nodes that wrote them."""
