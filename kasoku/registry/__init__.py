"""What must survive a restart: functions and their versions, in SQLite."""
