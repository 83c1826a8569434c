"""Files of datasets: downloads, archives and prepared caches."""
