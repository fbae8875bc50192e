"""What function authors use: declaring functions and calling them. Standard library only; it also lives in the guest."""
