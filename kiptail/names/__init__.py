"""What addresses are called that are no pod's."""
