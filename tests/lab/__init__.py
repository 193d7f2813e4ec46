"""The lab: hosts with a real systemd on one machine, joined by a switch, gone when the run ends."""
