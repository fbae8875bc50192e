"""What happened: metrics, usage and events. Fed by the gateway and the controller; nobody waits for it."""
