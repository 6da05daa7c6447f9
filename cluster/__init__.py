"""Where experts run and how many: placement on nodes. The fleet files live in `fleets/`."""
