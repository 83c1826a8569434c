"""Task analysis: what makes a task hard, what a learner can learn, and what to train on next."""
