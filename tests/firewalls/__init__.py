"""Random rule sets with real packets: what `kiptail check` says of them is compared with what the kernel does."""
