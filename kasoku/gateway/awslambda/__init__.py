"""Lambda's management API: functions, versions, aliases, concurrency, in Lambda's words and with its errors."""
