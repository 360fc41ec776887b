"""One written value after the other, checked and put together as frozen settings."""
