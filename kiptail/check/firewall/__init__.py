"""What rules of iptables and nftables log, and what becomes of the packet then (pure)."""
