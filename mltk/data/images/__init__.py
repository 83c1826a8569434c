"""Datasets of images, and the tasks that are drawn from them."""
