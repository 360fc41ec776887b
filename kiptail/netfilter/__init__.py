"""A log line of the kernel's, and the packet drop that it tells of."""
