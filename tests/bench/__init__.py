"""The product beside its peers, measured in one run on the hosts of the lab."""
