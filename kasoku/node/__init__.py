"""The agent of one host: virtual machines, brokers, channels and logs of instances."""
