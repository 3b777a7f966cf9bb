"""What rules mean: `evaluate` applies them, `limits` makes the shipped ones, `lint` proves that a run can end."""
