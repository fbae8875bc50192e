"""What function authors use: declaring functions and calling them. Standard library only; it is in the guest too."""
