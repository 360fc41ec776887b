"""Time: steady time, the machine's own clock, and dates as Kubernetes writes them."""
