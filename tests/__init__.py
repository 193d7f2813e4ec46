"""The tests: pure, loopback, install, lab; each ring slower and truer."""
