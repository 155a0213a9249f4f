"""The reference pages of the documentation are generated here, from what they describe."""
