"""Ring 3: install.sh on bare hosts of the lab."""
