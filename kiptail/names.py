"""Temporary."""
class Names:
    def __init__(self, **k): pass
    def lookup(self, a): return ""
    def close(self): pass
