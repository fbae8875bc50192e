"""Images: what a guest's root file system is stacked from, how it is built, and where it is kept."""
