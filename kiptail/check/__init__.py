"""Why an operator sees no Events: ``kiptail check``."""
