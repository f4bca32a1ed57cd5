"""The lines: each measures one thing against its limit."""
