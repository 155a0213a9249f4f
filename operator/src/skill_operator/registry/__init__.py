"""The OCI registry: names of images, reading, credentials, and the disk of the embedded one."""
