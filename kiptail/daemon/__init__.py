"""One run of kiptail, from its start to its stop."""
