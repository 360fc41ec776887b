"""What is left out by choice: filters of whoever runs a node, and what owners of pods say for themselves."""
