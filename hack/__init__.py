"""The commands of the repository: cluster, images, installation, demo, generated pages."""
