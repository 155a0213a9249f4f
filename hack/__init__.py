"""This package holds the commands of the repository: cluster, images, installation, demo, generated pages."""
