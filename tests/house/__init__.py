"""House rules as tests: what holds for the whole project, whatever it does."""
