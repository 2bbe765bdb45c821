"""What takes minutes, and is worth them before a release: ``make torture``."""
