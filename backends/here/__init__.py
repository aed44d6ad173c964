"""Schedules of this machine, which its own timers keep: systemd's for the user, or cron."""
