"""EventBridge: the default bus, its rules and their targets."""
