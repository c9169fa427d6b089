"""CloudFormation, completed to what the template needs."""
