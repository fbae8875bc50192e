"""Who holds which accelerator, who waits, who must stop. Pure: devices, time and requests come in, decisions go out."""
