"""``kubectl drops``: a namespace's drops by its Events, for who may read those and nothing else."""
