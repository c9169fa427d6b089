"""Who may do what: sessions of roles, their policies, and the resources of a call."""
