"""Prove that the cluster isolates skills, and find the networks that no grant of egress opens."""
