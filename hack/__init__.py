"""What a user of this repository runs: the cluster, the images, their installation and the demo."""
