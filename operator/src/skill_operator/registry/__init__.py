"""Work with the OCI registry: references of images, reading, credentials, and the disk of the embedded one."""
