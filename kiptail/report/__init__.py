"""Who dropped whose packets, when: the journal of a period, added up."""
