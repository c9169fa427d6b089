"""The control plane measured: in storms, beside its baselines, and at its cold start."""
