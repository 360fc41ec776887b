"""Time: steady time, this machine's clock, dates as text, how soon to try again, and troubles, which begin and end."""
