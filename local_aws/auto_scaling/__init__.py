"""Auto Scaling groups that launch, replace and detach."""
