"""The built package on a booted Debian: systemd as PID 1, the real kernel log, a cluster on the loopback."""
