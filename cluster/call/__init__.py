"""One phone call: the core that decides, and the shells around it."""
